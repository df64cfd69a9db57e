//! Letters on their way: from the table to a mail server or the outbox, off the request's path and across restarts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::Notify;

use crate::store::mails::Mail;
use crate::store::{Store, StoreError, mails};

/// Where letters go.
pub struct Mailer {
    outbox: PathBuf,
    smtp: Option<Smtp>,
}

struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// The address of the mail server cannot be used. The operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("mail.smtp cannot be used; it looks like smtp://user:password@host:587?tls=required or smtps://…")]
pub struct SmtpUrlError;

/// Why a letter stays where it is for now.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the outbox cannot be written ({0})")]
    Io(#[from] std::io::Error),
    #[error("the mail server does not take letters ({0})")]
    Smtp(#[source] lettre::transport::smtp::Error),
}

/// Where a letter lies that no mail server took.
pub(crate) fn outbox_file(outbox: &Path, id: i64) -> PathBuf {
    outbox.join(format!("{id:08}.eml"))
}

impl Mailer {
    /// Letters go to the server, or into `outbox` as `<id>.eml` where there is none.
    ///
    /// # Errors
    /// [`SmtpUrlError`].
    pub fn new(outbox: PathBuf, smtp: Option<&str>) -> Result<Self, SmtpUrlError> {
        let smtp = match smtp {
            None => None,
            Some(url) => {
                let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| SmtpUrlError)?;
                let transport = builder.timeout(Some(SMTP_MAX)).build();
                Some(Smtp { transport, from: sender(url).ok_or(SmtpUrlError)? })
            }
        };
        Ok(Mailer { outbox, smtp })
    }

    /// Delivers each waiting letter, at once and whenever `waits` says so.
    pub async fn run(self, store: Store, waits: Arc<Notify>) {
        loop {
            match self.deliver_waiting(&store).await {
                Ok(0) => waits.notified().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!("A letter waits: {error}; trying again");
                    // A further letter is a reason to try at once.
                    let _ = tokio::time::timeout(RETRY, waits.notified()).await;
                }
            }
        }
    }

    async fn deliver_waiting(&self, store: &Store) -> Result<usize, DeliverError> {
        let waiting = store.read(|connection| mails::waiting(connection, 100).map_err(StoreError::from)).await?;
        let count = waiting.len();
        for mail in waiting {
            let id = mail.id;
            self.deliver(mail).await?;
            // Sent twice after a crash in between: a second letter is better than none.
            store.write(move |connection| mails::mark_delivered(connection, id).map_err(StoreError::from)).await?;
        }
        Ok(count)
    }

    async fn deliver(&self, mail: Mail) -> Result<(), DeliverError> {
        if let Some(smtp) = &self.smtp
            && let Some(message) = message(&mail, smtp.from.clone())
        {
            match smtp.transport.send(message).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_permanent() => {
                    tracing::error!("The mail server refuses letter {} for good; it lies in the outbox", mail.id);
                }
                Err(error) => return Err(DeliverError::Smtp(error)),
            }
        }
        let path = outbox_file(&self.outbox, mail.id);
        let text = letter(&mail);
        let written = tokio::task::spawn_blocking(move || write(&path, text.as_bytes())).await;
        Ok(written.map_err(std::io::Error::other)??)
    }
}

/// The user of the URL where it is an address, else `talkstack` at its host.
fn sender(url: &str) -> Option<Mailbox> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = user.split(':').next()?.replace("%40", "@");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let host = if host.parse::<std::net::IpAddr>().is_ok() { "localhost" } else { host };
    let address = if user.contains('@') { user } else { format!("talkstack@{host}") };
    Some(Mailbox::new(Some("Talkstack Edge".into()), address.parse().ok()?))
}

fn message(mail: &Mail, from: Mailbox) -> Option<Message> {
    let to = mail.recipient.parse().ok()?;
    Message::builder().from(from).to(to).subject(&mail.subject).body(mail.body.clone()).ok()
}

/// RFC 5322. Recipient and subject were checked when they were made; the body is plain text.
fn letter(mail: &Mail) -> String {
    format!(
        "Date: {}\r\nFrom: Talkstack Edge <talkstack@localhost>\r\nTo: {}\r\nSubject: {}\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        crate::clock::rfc2822(mail.created_ms),
        mail.recipient,
        mail.subject,
        mail.body.replace('\n', "\r\n")
    )
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// 10 s: a full disk or a server that is away is looked at again.
const RETRY: Duration = Duration::from_secs(10);

/// 15 s for one exchange with the server.
const SMTP_MAX: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_the_account_or_talkstack_at_the_host() {
        for (url, from) in [
            ("smtps://me%40clinic.example:pw@mail.example", "me@clinic.example"),
            ("smtp://mail.example:25", "talkstack@mail.example"),
            ("smtp://user:pw@10.0.0.1:587?tls=required", "talkstack@localhost"),
        ] {
            assert_eq!(sender(url).expect(url).email.to_string(), from);
        }
        assert!(Mailer::new("/x".into(), Some("http://mail.example")).is_err());
    }
}
