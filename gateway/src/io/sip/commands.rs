//! What the control plane asks of the calls.

use std::time::Instant;

use talkstack_control::port::{Blame, CallId, CollectOrder, Command, CommandId, CommandReply, EndReason, Outcome};
use tokio::sync::oneshot;

use super::SipThread;
use crate::io::shard::ToCall;

impl SipThread {
    pub(super) fn handle_command(
        &mut self,
        command_id: CommandId,
        command: Command,
        reply: oneshot::Sender<CommandReply>,
    ) {
        let now = Instant::now();
        let known = self.dialling.answered.find(&command_id, now);
        let answer = match (known, command) {
            (Some(answer), _) => answer,
            (None, Command::HangUp { call_id }) => {
                self.command(call_id, ToCall::HangUp(Outcome::new(Blame::Operator, EndReason::HungUp)))
            }
            (None, Command::PauseRecording { call_id, is_paused }) => {
                self.command(call_id, ToCall::PauseRecording { is_paused })
            }
            (None, Command::Transfer { call_id, to }) => {
                let is_up = self.switchboard.entry(call_id).is_some();
                if is_up {
                    self.put_through(call_id, &to);
                }
                if is_up { CommandReply::Accepted } else { CommandReply::NoSuchCall }
            }
            (None, Command::Collect { call_id, order }) => return self.collect(call_id, order, reply),
            (None, Command::Dial(order)) => return self.handle_dial(command_id, *order, reply),
            // What changes nothing need not be remembered.
            (None, Command::Lines) => return self.tell_lines(reply),
            (None, Command::Simulate(question)) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.simulate(&question));
                return;
            }
            // The pipe's end has it done beside all calls, and passes none on.
            (None, Command::Audition(_)) => CommandReply::Busy,
            (None, Command::TestTrunk { trunk_id, number }) => return self.test_trunk(trunk_id, number, reply),
        };
        self.dialling.answered.remember(command_id, answer.clone(), now);
        // Whoever asked may be gone; a command that comes again gets the same answer.
        let _ = reply.send(answer);
    }

    /// Tells a call, and returns whether it has been told.
    fn command(&self, id: CallId, message: ToCall) -> CommandReply {
        match self.tell(id, message) {
            Some(true) => CommandReply::Accepted,
            Some(false) => CommandReply::Busy,
            None => CommandReply::NoSuchCall,
        }
    }

    /// The call itself answers, once it has the keys; where its thread takes nothing more, nobody does.
    fn collect(&self, id: CallId, order: CollectOrder, reply: oneshot::Sender<CommandReply>) {
        if self.switchboard.entry(id).is_none() {
            // Whoever asked may be gone.
            let _ = reply.send(CommandReply::NoSuchCall);
            return;
        }
        self.tell(id, ToCall::Collect(order, reply));
    }
}
