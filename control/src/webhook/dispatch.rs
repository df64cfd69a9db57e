//! Takes deliveries out of their table and to their receivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::SECRET_PURPOSE;
use super::event::with_links;
use super::plan::{Attempt, Step, has_failed_too_long, plan, retry_after};
use super::post::{Message, Poster};
use super::sign::WebhookSecret;
use super::target::HookUrl;
use crate::clock::Clock;
use crate::recording::Recordings;
use crate::secret::{Secret, random};
use crate::store::deliveries::{Delivery, Report};
use crate::store::webhooks::Hook;
use crate::store::{Store, StoreError, calls, deliveries, mails, webhooks};

/// Delivers events for as long as it runs.
pub struct Dispatcher {
    /// Where deliveries lie.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Opens the hooks' secrets.
    pub secret: Secret,
    /// Makes links to recordings.
    pub recordings: Recordings,
    /// Sends.
    pub poster: Poster,
    /// A letter was queued.
    pub mail_waits: Arc<Notify>,
}

/// Deliveries under way, and whose.
type Flying = BTreeMap<i64, String>;

impl Dispatcher {
    /// Runs until the store is gone.
    pub async fn run(self) {
        let this = Arc::new(self);
        let mut commits = this.store.commits();
        let mut flying = Flying::new();
        let mut attempts = JoinSet::new();
        let mut forgotten_ms = i64::MIN;
        for turn in 0.. {
            // Before the table is read: what is stored meanwhile is a reason to read it again.
            commits.borrow_and_update();
            this.forget(&mut forgotten_ms).await;
            let wait = match this.due(&flying, turn).await {
                Ok((due, wait)) => {
                    for delivery in due {
                        flying.insert(delivery.id, delivery.project_id.clone());
                        let this = Arc::clone(&this);
                        attempts.spawn(async move { this.attempt(delivery).await });
                    }
                    wait
                }
                Err(error) => {
                    tracing::error!("The webhooks' deliveries cannot be read ({error})");
                    RETRY
                }
            };
            tokio::select! {
                Some(ended) = attempts.join_next() => match ended {
                    Ok(id) => {
                        flying.remove(&id);
                    }
                    // It keeps its place until the restart, so that it does not fail the same way all day.
                    Err(error) => tracing::error!("A webhook's delivery has failed inside ({error})"),
                },
                changed = commits.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What can leave now, and how long nothing else will be due.
    async fn due(&self, flying: &Flying, turn: usize) -> Result<(Vec<Delivery>, Duration), StoreError> {
        let (flying, now_ms) = (flying.clone(), self.clock.now_ms());
        let read = self.store.read(move |connection| {
            let mut due = Vec::new();
            let mut projects = webhooks::waiting_projects(connection)?;
            // Each is first at times, so that many slow ones do not starve the rest.
            let first = turn.checked_rem(projects.len()).unwrap_or(0);
            projects.rotate_left(first);
            for project in projects {
                let busy = flying.values().filter(|other| **other == project).count();
                let room = PROJECT_MAX.saturating_sub(busy).min(FLYING_MAX.saturating_sub(flying.len() + due.len()));
                if room > 0 {
                    let found = deliveries::due(connection, &project, now_ms, room + busy)?;
                    due.extend(found.into_iter().filter(|delivery| !flying.contains_key(&delivery.id)).take(room));
                }
            }
            Ok::<_, StoreError>((due, deliveries::next_ms(connection, now_ms)?))
        });
        let (due, next_ms) = read.await?;
        let wait = next_ms.map(|at_ms| Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0)));
        Ok((due, wait.unwrap_or(LOOK_MAX).min(LOOK_MAX)))
    }

    /// Makes one attempt and notes what came of it. Only then the delivery counts as tried: a crash before repeats it.
    async fn attempt(&self, delivery: Delivery) -> i64 {
        let (project_id, call_id) = (delivery.project_id.clone(), delivery.call_id.clone());
        let (recordings, now_ms) = (self.recordings.clone(), self.clock.now_ms());
        let find = move |connection: &Connection| {
            let hook = webhooks::find(connection, &project_id)?;
            let call = calls::find_anywhere(connection, &call_id)?;
            Ok::<_, StoreError>((hook, call.map(|call| recordings.links(&call, now_ms)).unwrap_or_default()))
        };
        let (hook, links) = insist(|| self.store.read(find.clone())).await;
        let (status, error, step) = match &hook {
            None => (None, Some("the project has no webhook".to_owned()), Step::GiveUp),
            Some(hook) => self.post(&delivery, hook, &links).await,
        };
        let id = delivery.id;
        let (url, now_ms) = (hook.map(|hook| hook.url), self.clock.now_ms());
        let report = Report { status, error: error.map(shortened), next_ms: None };
        let settle = move |connection: &Connection| {
            settle(connection, &delivery, url.as_deref(), report.clone(), step, now_ms).map_err(StoreError::from)
        };
        if insist(|| self.store.write(settle.clone())).await {
            self.mail_waits.notify_one();
        }
        id
    }

    async fn post(&self, delivery: &Delivery, hook: &Hook, links: &[String]) -> (Option<u16>, Option<String>, Step) {
        let opened = self.secret.unseal(SECRET_PURPOSE, &hook.secret).map_err(|error| error.to_string());
        let secret = opened.and_then(|text| WebhookSecret::parse(&text).map_err(|error| error.to_string()));
        let url = HookUrl::parse(&hook.url).map_err(|error| error.to_string());
        let (secret, url) = match (secret, url) {
            (Ok(secret), Ok(url)) => (secret, url),
            (Err(error), _) | (_, Err(error)) => return (None, Some(error), Step::GiveUp),
        };
        let body = with_links(&delivery.body, links);
        let timestamp_s = self.clock.now_ms().div_euclid(1000);
        let signature = secret.sign(&delivery.event_id, timestamp_s, &body);
        let message = Message { id: delivery.event_id.clone(), timestamp_s, signature, body };
        let answer = self.poster.post(&url, message).await;
        let (now_ms, seed) = (self.clock.now_ms(), u64::from_be_bytes(random()));
        let attempts = delivery.attempts + 1;
        match answer {
            Ok(answer) => {
                let status = answer.status;
                let pause = answer.retry_after.and_then(|text| retry_after(&text, now_ms));
                let step = plan(Attempt::Answered { status, retry_after: pause }, attempts, seed, now_ms);
                (Some(status), (step != Step::Delivered).then(|| format!("HTTP {status}")), step)
            }
            Err(error) => (None, Some(error.to_string()), plan(Attempt::Unanswered, attempts, seed, now_ms)),
        }
    }

    /// Once an hour, forgets what was settled 30 days ago.
    async fn forget(&self, forgotten_ms: &mut i64) {
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(*forgotten_ms) < FORGET_EVERY_MS {
            return;
        }
        *forgotten_ms = now_ms;
        let forget = move |connection: &Connection| deliveries::forget(connection, now_ms - KEPT_MS, FORGET_MAX);
        if let Err(error) = self.store.write(move |connection| forget(connection).map_err(StoreError::from)).await {
            tracing::warn!("Old deliveries stay for an hour more ({error})");
        }
    }
}

/// Asks the store until it answers: what was sent and is not noted would be sent again and again.
async fn insist<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) => tracing::error!("A webhook's delivery waits for the database ({error})"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Notes an attempt; `true` when a letter waits because the hook was turned off.
fn settle(
    connection: &Connection,
    delivery: &Delivery,
    url: Option<&str>,
    report: Report,
    step: Step,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let Delivery { id, project_id, .. } = delivery;
    let next_ms = match step {
        Step::Again { at_ms } => Some(at_ms),
        Step::Delivered | Step::GiveUp | Step::Disable => None,
    };
    let report = Report { next_ms, ..report };
    if deliveries::report(connection, *id, &report, now_ms)? {
        webhooks::free_places(connection, project_id, 1)?;
    }
    // Of another address, or of none, this attempt tells nothing.
    let hook = webhooks::find(connection, project_id)?;
    let (Some(url), Some(hook)) = (url, hook.filter(|hook| Some(hook.url.as_str()) == url)) else { return Ok(false) };
    let since_ms = match step {
        Step::Delivered => None,
        _ => Some(hook.failing_since_ms.unwrap_or(now_ms)),
    };
    if since_ms != hook.failing_since_ms {
        webhooks::put_failing_since(connection, project_id, since_ms)?;
    }
    let is_over = step == Step::Disable || since_ms.is_some_and(|since_ms| has_failed_too_long(since_ms, now_ms));
    if !is_over || !webhooks::disable(connection, project_id, url, now_ms)? {
        return Ok(false);
    }
    let given_up = deliveries::give_up_all(connection, project_id, "the webhook was turned off", now_ms)?;
    webhooks::free_places(connection, project_id, given_up)?;
    tracing::warn!(project = project_id, "A webhook was turned off; {given_up} events were given up");
    let Some((email, project)) = webhooks::owner(connection, project_id)? else { return Ok(false) };
    let why = if step == Step::Disable { "answered 410 Gone" } else { "has failed for three days" };
    let letter = format!(
        "The webhook of the project {project} {why} and was turned off. Nothing more is sent to it.\n\n\
         To turn it on again, set it anew: POST /project/call-status/add-webhookurl\n"
    );
    mails::insert(connection, &email, "A webhook was turned off", &letter, now_ms)?;
    Ok(true)
}

fn shortened(mut error: String) -> String {
    let end = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    error.truncate(end.unwrap_or(0));
    error
}

/// 64 attempts at once: 64 sockets; at 50 ms each 1,280 events a second.
const FLYING_MAX: usize = 64;

/// 8 of one project, so that eight receivers must hang before others wait, and then 15 s.
const PROJECT_MAX: usize = 8;

/// 60 s: the clock may have been set.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// 1 s: a busy database has caught up by then.
const RETRY: Duration = Duration::from_secs(1);

/// 500 bytes: a sentence and what the system says.
const ERROR_BYTES_MAX: usize = 500;

/// One hour.
const FORGET_EVERY_MS: i64 = 3_600_000;

/// 30 days.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// 10,000 an hour: three a second over the month, in one short transaction.
const FORGET_MAX: usize = 10_000;
