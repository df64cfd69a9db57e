//! The services of a cascade ([`crate::agent::cascade`]), spoken to on tokio: HTTP as OpenAI has it, or Wyoming over TCP.
//!
//! ```text
//!   shard ◀── local socket, messages of [`crate::agent::cascade::message`] ──▶ task of the call ◀──▶ services
//! ```
//!
//! The socket's two buffers in the kernel are the bounded rings between the threads. Each order that something comes of
//! runs on its own; cancelled, it is dropped with its connection, and the service stops.
//!
//! | | listens | thinks | speaks |
//! |---|---|---|---|
//! | `http`, `https` | `POST /audio/transcriptions`, a WAV file in a form | `POST /chat/completions`, streaming | `POST /audio/speech`, WAV or bare samples, streaming |
//! | `tcp` (Wyoming) | `transcribe`, `audio-…` → `transcript` | | `synthesize` → `audio-…` |

mod greetings;
mod http;
mod listen;
mod speak;
mod think;
mod wyoming;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;
use talkstack_control::port::Sealed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::{AgentStream, AgentUrl, CONNECT_TIMEOUT, ConnectError, Connected};
use crate::agent::cascade::UTTERANCE_BYTES_MAX;
use crate::agent::cascade::message::{Failure, Inbound, News, Order};
pub use greetings::{Greeting, Greetings};
use http::HttpService;
use listen::Listener;
use speak::Talker;
use think::Thinker;
use wyoming::WyomingService;

/// Where a cascade's services are, and what they are asked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CascadeTarget {
    /// Who listens.
    pub listen: ServiceTarget,
    /// Who thinks.
    pub think: ServiceTarget,
    /// Who speaks.
    pub speak: ServiceTarget,
    /// The language that is spoken, as `de` or `en-US`.
    pub language: Option<String>,
    /// The voice.
    pub voice: Option<String>,
    /// Hertz of bare samples; `None` asks for a WAV file.
    pub sample_rate: Option<u32>,
    /// What the agent opens with.
    pub greeting: Greeting,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTarget {
    /// The address, up to `/v1`.
    pub url: AgentUrl,
    /// The key, still sealed.
    pub api_key: Option<Sealed>,
    /// The model, where the service is to be told of one.
    pub model: Option<String>,
}

/// The services' keys, opened.
pub struct ServiceKeys {
    /// Of who listens.
    pub listen: Option<String>,
    /// Of who thinks.
    pub think: Option<String>,
    /// Of who speaks.
    pub speak: Option<String>,
}

/// The services of one call.
struct Services {
    listener: Listener,
    thinker: Thinker,
    talker: Talker,
}

/// Connects to all services within [`CONNECT_TIMEOUT`], so that the first turn need not, and starts the task between
/// them and the call. What has been spoken of `greetings` is not asked for again.
///
/// # Errors
/// [`ConnectError`] of the first that cannot be reached.
pub async fn open(
    target: &CascadeTarget,
    keys: ServiceKeys,
    tls: &Arc<ClientConfig>,
    greetings: &Greetings,
) -> Result<Connected, ConnectError> {
    let CascadeTarget { listen, think, speak, language, voice, sample_rate, greeting } = target;
    let http = |service: &ServiceTarget, key| HttpService::new(&service.url, key, tls);
    let listener = if listen.url.is_wyoming() {
        Listener::wyoming(WyomingService::new(&listen.url), listen.model.clone(), language.clone())
    } else {
        Listener::http(http(listen, keys.listen)?, listen.model.clone(), language.clone())
    };
    let talker = if speak.url.is_wyoming() {
        Talker::wyoming(WyomingService::new(&speak.url), voice.clone(), language.clone())
    } else {
        Talker::http(http(speak, keys.speak)?, speak.model.clone(), voice.clone(), *sample_rate)
    };
    let prefix = format!("{} {:?} {voice:?} {language:?} {sample_rate:?}", speak.url, speak.model);
    let talker = talker.keeping(greetings.clone(), greeting.clone(), prefix);
    let services = Services { listener, thinker: Thinker::new(http(think, keys.think)?), talker };
    let all =
        async { tokio::try_join!(services.listener.connect(), services.thinker.connect(), services.talker.connect()) };
    tokio::time::timeout(CONNECT_TIMEOUT, all).await.map_err(|_| ConnectError::TimedOut)??;
    let (ours, theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        // Whichever side ends, the other learns of it from the connection.
        let _ = run(Arc::new(services), theirs).await;
    });
    Ok(Connected { stream: AgentStream::Local(ours.into_std()?), tls: None, leftover: Vec::new(), place: None })
}

/// An order that is being carried out; dropped, it is cancelled.
struct Job(JoinHandle<()>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries out the call's orders until it ends.
async fn run(services: Arc<Services>, stream: UnixStream) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (messages, mut news) = mpsc::channel::<Vec<u8>>(NEWS_MAX);
    let (mut inbound, mut utterance, mut jobs) = (Inbound::default(), Vec::new(), BTreeMap::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let bytes = read?;
                if bytes == 0 {
                    return Ok(());
                }
                inbound.handle_bytes(&buffer[..bytes]);
                while let Some((number, order)) = inbound.next_order().map_err(std::io::Error::other)? {
                    let told = Told { number, messages: messages.clone() };
                    match order {
                        Order::Listen => utterance.clear(),
                        Order::Hear(samples) if utterance.len() + samples.len() <= 2 * UTTERANCE_BYTES_MAX => {
                            utterance.extend_from_slice(samples);
                        }
                        Order::Hear(_) => {}
                        Order::Cancel => drop(jobs.remove(&number)),
                        order => {
                            jobs.retain(|_, job: &mut Job| !job.0.is_finished());
                            jobs.insert(number, start(Arc::clone(&services), told, order, &utterance));
                        }
                    }
                }
            }
            // The sender above stays as long as this loop does.
            Some(message) = news.recv() => writer.write_all(&message).await?,
        }
    }
}

/// Has an order carried out that something comes of.
fn start(services: Arc<Services>, told: Told, order: Order<'_>, utterance: &[u8]) -> Job {
    let failed = move |told: Told, result: Result<(), Failure>| async move {
        if let Err(failure) = result {
            told.tell(News::Failed(failure)).await;
        }
    };
    Job(match order {
        Order::Think(request) => {
            let request = request.to_vec();
            tokio::spawn(async move {
                let result = services.thinker.think(request, &told).await;
                failed(told, result).await;
            })
        }
        Order::Speak(line, text) => {
            let text = text.to_owned();
            tokio::spawn(async move {
                let result = services.talker.speak(&text, line, &told).await;
                failed(told, result).await;
            })
        }
        _ => {
            let utterance = utterance.to_vec();
            tokio::spawn(async move {
                let result = services.listener.transcribe(&utterance).await;
                let told_of = match &result {
                    Ok(words) => News::Transcript(words),
                    Err(failure) => News::Failed(*failure),
                };
                told.tell(told_of).await;
            })
        }
    })
}

/// Where to tell what becomes of an order.
struct Told {
    number: u32,
    messages: mpsc::Sender<Vec<u8>>,
}

impl Told {
    /// Waits while the call has not taken what came before. A call that is over takes nothing, and its task ends.
    async fn tell(&self, news: News<'_>) {
        let mut message = Vec::new();
        news.write(self.number, &mut message);
        let _ = self.messages.send(message).await;
    }
}

/// 16 messages of at most [`SOUND_BYTES`], 256 KiB: what was said before it is cancelled waits no longer than that.
const NEWS_MAX: usize = 16;

/// 16 KiB of samples in a message: a third of a second at 24 kHz.
const SOUND_BYTES: usize = 16 << 10;

/// 16 KiB at once: half a second of the caller's audio.
const READ_BYTES: usize = 16 << 10;
