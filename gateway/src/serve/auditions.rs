//! Providers tried out without a call, two at once at the most.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use talkstack_control::port::{Audition, AuditionOrder, CommandReply};
use tokio::sync::{Semaphore, oneshot};

use super::agents::Agents;
use crate::audition::{failed, plan};
use crate::io::audition::run;
use crate::prompts::{Language, Prompt};
use crate::random::Random;
use crate::speech::Speaker;

/// Tries providers out.
#[derive(Clone)]
pub struct Auditions {
    agents: Agents,
    speaker: Speaker,
    places: Arc<Semaphore>,
}

impl fmt::Debug for Auditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auditions")
    }
}

impl Auditions {
    pub(super) fn new(agents: Agents) -> Self {
        Auditions { agents, speaker: Speaker::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Tries a provider out, and tells what has come of it.
    pub(crate) fn begin(&self, order: AuditionOrder, reply: oneshot::Sender<CommandReply>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            // Whoever asked may be gone.
            let _ = reply.send(CommandReply::Busy);
            return;
        };
        let auditions = self.clone();
        self.agents.runtime.spawn(async move {
            let audition = auditions.try_out(order).await;
            let _ = reply.send(CommandReply::Auditioned(Box::new(audition)));
            drop(place);
        });
    }

    async fn try_out(&self, order: AuditionOrder) -> Audition {
        let begin = Instant::now();
        let not_connected = |fault: &str, found: String| Audition {
            steps: vec![failed("connect", fault, found, begin.elapsed())],
            speech: None,
        };
        let Ok(plan) = plan(&order) else {
            return not_connected("address", "The provider's address cannot be read; set it again.".to_owned());
        };
        let connected = match self.agents.connect(plan.summons(), plan.session_limit()).await {
            Ok(connected) => connected,
            Err((url, error)) => return not_connected("unreachable", format!("{url}: {error}")),
        };
        let connecting = begin.elapsed();
        let question = match self.speaker.speak(QUESTION).await {
            Ok(samples) => samples,
            // Without the program there is still somebody who speaks.
            Err(_) => Prompt::Greeting.samples(Language::En).to_vec(),
        };
        let seed = Random::default().u64();
        let ran =
            tokio::task::spawn_blocking(move || run(&plan, order.is_asked, question, seed, connected, connecting));
        ran.await
            .unwrap_or_else(|_| not_connected("panic", "The trial has failed; this is the box's fault.".to_owned()))
    }
}

/// Something that every agent can answer.
const QUESTION: &str = "Hello. Can you hear me? Please answer.";

/// Two: people who look at a list play one voice and then the next.
const AT_ONCE: usize = 2;
