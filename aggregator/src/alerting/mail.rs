//! Sends mail over SMTP.

mod auth;
mod connection;

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use tidemark_alerting::notify::message::{MailMessage, Verdict};

/// Sends a mail once.
pub(super) async fn send(mail: &MailMessage) -> Verdict {
    let message = match message(mail) {
        Ok(message) => message,
        Err(reason) => return Verdict::Failed(reason),
    };
    match connection::send(&mail.server, &message).await {
        Ok(()) => Verdict::Sent,
        Err(verdict) => verdict,
    }
}

fn message(mail: &MailMessage) -> Result<Message, String> {
    let from: Mailbox = mail
        .from
        .parse()
        .map_err(|error| format!("sender {:?}: {error}", mail.from))?;
    let to: Mailboxes = mail
        .to
        .parse()
        .map_err(|error| format!("recipients {:?}: {error}", mail.to))?;
    let mut builder = Message::builder()
        .from(from)
        .subject(&mail.subject)
        .message_id(None)
        .date_now();
    for mailbox in to {
        builder = builder.to(mailbox);
    }
    for (name, value) in &mail.headers {
        let name = HeaderName::new_from_ascii(name.clone())
            .map_err(|_| format!("bad header name {name:?}"))?;
        builder = builder.raw_header(HeaderValue::new(name, value.clone()));
    }
    let text = SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(mail.text.clone());
    let html = SinglePart::builder()
        .header(ContentType::TEXT_HTML)
        .body(mail.html.clone());
    let built = match (mail.text.is_empty(), mail.html.is_empty()) {
        (false, true) => builder.singlepart(text),
        (true, false) => builder.singlepart(html),
        _ => builder.multipart(MultiPart::alternative().singlepart(text).singlepart(html)),
    };
    built.map_err(|error| error.to_string())
}
