//! Authentication mechanisms of mail servers (RFC 4954): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_alerting::notify::message::LoadedMailServer;

/// Block size of MD5, to which HMAC (RFC 2104) pads its key.
const BLOCK_BYTES: usize = 64;

/// An authentication mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    CramMd5,
    Plain,
    Login,
}

/// Returns the mechanisms after `AUTH` in the answer to EHLO, in the server's order.
pub(super) fn offered<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    for line in lines {
        let mut words = line.split_whitespace();
        if words.next() == Some("AUTH") {
            return words.collect();
        }
    }
    Vec::new()
}

impl Mechanism {
    /// The first of `offered` that what is configured suffices for.
    pub(super) fn choose(offered: &[&str], server: &LoadedMailServer) -> Option<Self> {
        let usable = |name: &&str| match *name {
            "CRAM-MD5" if !server.secret.is_empty() => Some(Self::CramMd5),
            "PLAIN" if !server.password.is_empty() => Some(Self::Plain),
            "LOGIN" if !server.password.is_empty() => Some(Self::Login),
            _ => None,
        };
        offered.iter().find_map(usable)
    }

    /// The command that begins it.
    pub(super) fn opening(self, server: &LoadedMailServer) -> String {
        match self {
            Self::CramMd5 => "AUTH CRAM-MD5".to_owned(),
            Self::Login => "AUTH LOGIN".to_owned(),
            Self::Plain => {
                let password = server.password.expose();
                let text = format!("{}\0{}\0{password}", server.identity, server.username);
                format!("AUTH PLAIN {}", STANDARD.encode(text))
            }
        }
    }

    /// Returns the response to challenge number `step`, from 0.
    pub(super) fn answer(
        self,
        server: &LoadedMailServer,
        step: usize,
        challenge: &str,
    ) -> Result<String, String> {
        let answer = match (self, step) {
            (Self::CramMd5, 0) => {
                let challenge = STANDARD
                    .decode(challenge.trim())
                    .map_err(|error| format!("challenge of the mail server: {error}"))?;
                let digest = hmac_md5(server.secret.expose().as_bytes(), &challenge);
                format!("{} {digest:x}", server.username)
            }
            (Self::Login, 0) => server.username.clone(),
            (Self::Login, 1) => server.password.expose().to_owned(),
            _ => {
                return Err(
                    "the mail server sent more challenges than its mechanism has".to_owned(),
                );
            }
        };
        Ok(STANDARD.encode(answer))
    }
}

/// HMAC-MD5, used only by CRAM-MD5.
fn hmac_md5(key: &[u8], message: &[u8]) -> md5::Digest {
    let mut block = [0; BLOCK_BYTES];
    let short = if key.len() > BLOCK_BYTES {
        md5::compute(key).0.to_vec()
    } else {
        key.to_vec()
    };
    for (byte, given) in block.iter_mut().zip(short) {
        *byte = given;
    }
    let keyed = |pad: u8, text: &[u8]| {
        let mut whole: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
        whole.extend_from_slice(text);
        md5::compute(whole)
    };
    keyed(0x5c, &keyed(0x36, message).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::secret::Secret;

    #[test]
    fn hmac_is_that_of_the_rfcs() {
        // RFC 2202, cases 1, 2 and 6.
        let hex = |key: &[u8], text: &[u8]| format!("{:x}", hmac_md5(key, text));
        assert_eq!(
            hex(&[0x0b; 16], b"Hi There"),
            "9294727a3638bb1c13f48ef8158bfc9d"
        );
        assert_eq!(
            hex(b"Jefe", b"what do ya want for nothing?"),
            "750c783e6ab0b503eaa86e310a5db738"
        );
        assert_eq!(
            hex(
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"
        );
    }

    #[test]
    fn challenge_of_the_rfc_gets_the_response_of_the_rfc() {
        // RFC 2195, section 2.
        let server = LoadedMailServer {
            username: "tim".to_owned(),
            secret: Secret::new("tanstaaftanstaaf"),
            ..LoadedMailServer::default()
        };
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        assert_eq!(
            Mechanism::CramMd5.answer(&server, 0, &challenge).unwrap(),
            "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
        );
        assert!(Mechanism::CramMd5.answer(&server, 1, &challenge).is_err());
        assert!(Mechanism::CramMd5.answer(&server, 0, "~").is_err());
    }

    #[test]
    fn first_possible_mechanism_is_chosen() {
        let lines = ["mail.example", "SIZE 1", "AUTH CRAM-MD5 LOGIN PLAIN"];
        let offer = offered(lines.into_iter());
        let mut server = LoadedMailServer::default();
        assert_eq!(Mechanism::choose(&offer, &server), None);
        server.password = Secret::new("p");
        assert_eq!(Mechanism::choose(&offer, &server), Some(Mechanism::Login));
        server.secret = Secret::new("s");
        assert_eq!(Mechanism::choose(&offer, &server), Some(Mechanism::CramMd5));
        assert!(offered(["mail.example"].into_iter()).is_empty());
    }
}
