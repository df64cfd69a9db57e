//! What commands were answered: one that is repeated is not carried out again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use talkstack_control::port::{CommandId, CommandReply};

/// The answers of the last 24 hours of this boot, whichever connection the commands came by.
#[derive(Debug, Default)]
pub(super) struct Answered {
    replies: HashMap<CommandId, (CommandReply, Instant)>,
    order: VecDeque<CommandId>,
}

impl Answered {
    pub(super) fn find(&self, id: &CommandId, now: Instant) -> Option<CommandReply> {
        let (reply, at) = self.replies.get(id)?;
        (now.saturating_duration_since(*at) < REMEMBERED).then(|| reply.clone())
    }

    pub(super) fn remember(&mut self, id: CommandId, reply: CommandReply, now: Instant) {
        if self.replies.insert(id.clone(), (reply, now)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.replies.remove(&oldest);
        }
    }
}

/// As the port promises.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// 10,000 commands a day.
const REMEMBERED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_command_gets_its_first_answer_for_a_day() {
        let (mut answered, start) = (Answered::default(), Instant::now());
        let id = CommandId("a".into());
        assert_eq!(answered.find(&id, start), None);
        answered.remember(id.clone(), CommandReply::Accepted, start);
        assert_eq!(answered.find(&id, start + REMEMBERED / 2), Some(CommandReply::Accepted));
        assert_eq!(answered.find(&id, start + REMEMBERED), None);
    }

    #[test]
    fn the_oldest_answer_makes_room() {
        let (mut answered, now) = (Answered::default(), Instant::now());
        for number in 0..=REMEMBERED_MAX {
            answered.remember(CommandId(number.to_string()), CommandReply::Accepted, now);
        }
        assert_eq!(answered.find(&CommandId("0".into()), now), None);
        assert_eq!(answered.find(&CommandId("1".into()), now), Some(CommandReply::Accepted));
    }
}
