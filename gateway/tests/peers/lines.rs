//! A box whose trunks and phones are set over the pipe that its control side uses.

use talkstack_control::port::{
    AgentRoute, CallEvent, CallId, Command, CommandId, CommandReply, DialOrder, ExtensionRoute, LineStates,
    NumberRoute, Outcome, RegistrationState, Sealed, Snapshot, ToCalls, ToControl, TrunkRoute,
};
use talkstack_control::secret::{EXTENSION_PASSWORD_PURPOSE, SECRET_FILE, Secret, TRUNK_PASSWORD_PURPOSE};
use tempfile::TempDir;

use super::site::NUMBER;
use crate::daemon::{Daemon, wait_until};
use crate::survival::ScriptedControl;

/// The box, and what it has been told.
pub(crate) struct Lines {
    pub(crate) daemon: Daemon,
    control: ScriptedControl,
    secret: Secret,
    snapshot: Snapshot,
    calls: u128,
    _dir: TempDir,
}

impl Lines {
    /// A box with one number, which its attendant answers, and no line.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = Daemon::start("calls", dir.path(), settings);
        let secret = Secret::open(&dir.path().join(SECRET_FILE)).expect("the box's own");
        let control = ScriptedControl::connect(dir.path());
        let mut snapshot = Snapshot { is_claimed: true, ..Snapshot::default() };
        snapshot.agents.insert("agent".into(), AgentRoute::new("project", "Jack"));
        let mut lines = Lines { daemon, control, secret, snapshot, calls: 0, _dir: dir };
        lines.number(NUMBER);
        lines
    }

    /// Gives it another number, which its attendant answers.
    pub(crate) fn number(&mut self, number: &str) {
        let route = NumberRoute { project_id: "project".into(), agent_id: Some("agent".into()) };
        self.set(|snapshot| drop(snapshot.numbers.insert(number.trim_start_matches('+').into(), route)));
    }

    /// Changes what the box is told; returns once it does by it: whoever registered before would be refused.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot);
        self.snapshot.revision += 1;
        self.control.send(&ToCalls::Snapshot(self.snapshot.clone()));
        let sent = self.snapshot.revision;
        self.control.wait_for(|message| match message {
            ToControl::Applied { revision } => (revision == sent).then_some(()),
            _ => None,
        });
    }

    /// Gives it a trunk that lists the box's number.
    pub(crate) fn trunk(&mut self, mut trunk: TrunkRoute, password: Option<&str>) {
        trunk.password = password.map(|password| self.secret.seal(TRUNK_PASSWORD_PURPOSE, password));
        trunk.numbers = vec![NUMBER.trim_start_matches('+').into()];
        trunk.is_default = true;
        self.set(|snapshot| drop(snapshot.trunks.insert("trunk".into(), trunk)));
    }

    /// Gives it a phone of its own.
    pub(crate) fn extension(&mut self, user: &str, password: &str) {
        let password: Option<Sealed> = Some(self.secret.seal(EXTENSION_PASSWORD_PURPOSE, password));
        let extension = ExtensionRoute { name: user.into(), password, ..ExtensionRoute::default() };
        self.set(|snapshot| drop(snapshot.extensions.insert(user.into(), extension)));
    }

    /// Has it call a number, and waits until it has taken that on or not.
    pub(crate) fn order(&mut self, to: &str) -> CommandReply {
        let call = self.dial(to);
        self.control.wait_for_reply(&format!("dial {}", call.0))
    }

    /// Has it call a number.
    pub(crate) fn dial(&mut self, to: &str) -> CallId {
        self.calls += 1;
        let order = DialOrder {
            call_id: CallId(self.calls),
            to: to.into(),
            from: NUMBER.into(),
            project_id: "project".into(),
            agent_id: "agent".into(),
            variables: Default::default(),
        };
        let command = Command::Dial(Box::new(order));
        self.control.send(&ToCalls::Command { command_id: CommandId(format!("dial {}", self.calls)), command });
        CallId(self.calls)
    }

    /// Waits until its trunk is registered.
    pub(crate) fn registers(&mut self) {
        wait_until("the box registers", || {
            let states = self.states();
            let registration = &states.trunks.get("trunk")?.registration;
            matches!(registration, RegistrationState::Registered { .. }).then_some(())
        });
    }

    /// How many phones are registered as a user.
    pub(crate) fn bindings(&mut self, user: &str) -> usize {
        self.states().extensions.get(user).map_or(0, Vec::len)
    }

    /// How long each of them is still bound, in seconds.
    pub(crate) fn lives(&mut self, user: &str) -> Vec<u32> {
        self.states().extensions.get(user).into_iter().flatten().map(|contact| contact.expires_s).collect()
    }

    fn states(&mut self) -> LineStates {
        match self.control.ask("lines", Command::Lines) {
            CommandReply::Lines(states) => *states,
            other => panic!("{other:?}"),
        }
    }

    /// Looks at what happens until there is an answer.
    pub(crate) fn event<T>(&mut self, look: impl FnMut(CallEvent) -> Option<T>) -> T {
        self.control.wait_for_event(look)
    }

    /// Waits for the next answer of a call.
    pub(crate) fn answered(&mut self) {
        self.control.wait_for_event(|event| matches!(event, CallEvent::Answered { .. }).then_some(()));
    }

    /// Waits for the next end of a call.
    pub(crate) fn ended(&mut self) -> Outcome {
        self.control.wait_for_end()
    }
}
