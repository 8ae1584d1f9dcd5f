//! Mounts, from /proc/PID/mountinfo.
//!
//! The parser of the crate procfs does not decode octal escapes and can't tell a source named `none` from an empty
//! one.

use crate::parse;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the mounted device.
    pub device_numbers: String,
    /// Mountpoint in the host's root.
    pub mountpoint: String,
    /// Type, as in `mount -t`.
    pub fstype: String,
    /// The mounted device, or a word for file systems without one.
    pub source: String,
    /// Options of the mount.
    pub options: String,
    /// Options of the file system.
    pub super_options: String,
}

/// Parses one line; `None` for a truncated one.
///
/// Format: proc_pid_mountinfo(5). Zero or more optional fields precede the dash. Fields are separated by exactly one
/// blank: a source may be empty, and names may contain a carriage return.
#[must_use]
pub fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let device_numbers = parse::text(words.nth(2)?);
    let mountpoint = unescape(words.nth(1)?);
    let options = parse::text(words.next()?);
    words.find(|word| *word == b"-")?;
    let fstype = parse::text(words.next()?);
    let source = unescape(words.next()?);
    let super_options = words.next().map(parse::text).unwrap_or_default();
    Some(Mount {
        device_numbers,
        mountpoint,
        fstype,
        source,
        options,
        super_options,
    })
}

impl Mount {
    /// Whether `option` is among the mount's or the file system's options.
    #[must_use]
    pub fn has_option(&self, option: &str) -> bool {
        let options = self.options.split(',').chain(self.super_options.split(','));
        options.into_iter().any(|candidate| candidate == option)
    }
}

/// Decodes the kernel's octal escapes of blanks, tabs, line feeds and backslashes.
fn unescape(word: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = tail.get(..3).filter(|_| byte == b'\\').and_then(octal);
        if escaped.is_some() {
            rest = tail.get(3..).unwrap_or_default();
        }
        bytes.push(escaped.unwrap_or(byte));
    }
    parse::text(&bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let number = digits.iter().try_fold(0_u32, |number, &digit| {
        Some(number * 8 + (digit as char).to_digit(8)?)
    })?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 shared:2 - ext3 /dev/ro\134ot ro,errors=continue";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.mountpoint, "/mnt two");
        assert_eq!((&*mount.source, &*mount.fstype), (r"/dev/ro\ot", "ext3"));
        assert!(mount.has_option("ro") && mount.has_option("noatime") && !mount.has_option("r"));
        assert_eq!(mount.device_numbers, "98:0");
        assert_eq!(parse_line(b"36 35 98:0 /mnt1 /mnt2 rw shared:2"), None);
    }

    #[test]
    fn only_a_blank_separates_fields() {
        let mount = parse_line(b"36 35 0:42 / /a\rb\x0c rw - tmpfs  ro,size=1k").unwrap();
        assert_eq!(mount.mountpoint, "/a\rb\x0c");
        assert_eq!((&*mount.source, &*mount.super_options), ("", "ro,size=1k"));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _mount = parse_line(&data);
            let _text = unescape(&data);
        }
    }
}
