//! The service that thinks: a chat completion, streamed.

use super::Told;
use super::http::HttpService;
use crate::agent::cascade::chat::ChatStream;
use crate::agent::cascade::message::{Failure, News};
use crate::io::connect::ConnectError;

/// Who thinks.
pub(super) struct Thinker {
    service: HttpService,
}

impl Thinker {
    pub(super) fn new(service: HttpService) -> Self {
        Thinker { service }
    }

    /// Makes the connection ahead of the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<(), ConnectError> {
        self.service.connect().await
    }

    /// Has a request answered, and tells of the answer as it comes.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn think(&self, request: Vec<u8>, told: &Told) -> Result<(), Failure> {
        let mut reply = self.service.post("/chat/completions", "application/json", request).await?;
        let (mut chat, mut words) = (ChatStream::default(), String::new());
        if reply.is_json {
            chat.handle_whole(&reply.whole(ANSWER_BYTES_MAX).await?, &mut words)?;
        } else {
            // Behind the end comes nothing but the body's, which leaves the connection for the next request.
            while let Some(bytes) = reply.next().await? {
                chat.handle_bytes(&bytes, &mut words)?;
                if !words.is_empty() {
                    told.tell(News::Words(&words)).await;
                    words.clear();
                }
            }
        }
        let calls = chat.finish(&mut words)?;
        if !words.is_empty() {
            told.tell(News::Words(&words)).await;
        }
        for call in calls {
            told.tell(News::Call(&serde_json::to_vec(&call).map_err(|_| Failure::Format)?)).await;
        }
        told.tell(News::Thought).await;
        Ok(())
    }
}

/// 1 MiB of an answer that does not stream.
const ANSWER_BYTES_MAX: usize = 1 << 20;
