use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use base64_simd::STANDARD;
use talkstack_control::port::{FirstSpeaker, ProviderKind};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::session::{HandshakeId, HandshakeInput};

use super::*;
use crate::agent::http_tool::Prepared;
use crate::agent::provider::ServicePlan;
use crate::io::connect::{AgentStream, AgentTarget, Connected, SessionLimit};
use crate::io::inbox::inbox;
use crate::route::Plan;

#[test]
fn a_panic_in_one_call_ends_it_with_a_bye_and_a_record_and_no_other_call_notices() {
    let mut bench = Bench::new(SpeechPool::default());
    let (broken, healthy) = (bench.offer(1, Plan::Echo), bench.offer(2, Plan::Echo));
    bench.round();
    bench.told();
    bench.shard.turn(broken, |_| panic!("a machine is broken"));
    bench.round();
    let outcome = Outcome::new(Blame::Gateway, EndReason::Aborted);
    let ended = CallEvent::Ended { outcome };
    assert_eq!(
        bench.told(),
        [
            Told::Record(CallId(1), ended),
            Told::Sip(CallId(1), SipWish::End(LegId::First, outcome)),
            Told::Sip(CallId(1), SipWish::End(LegId::Second, outcome)),
            Told::Sip(CallId(1), SipWish::Forgotten)
        ]
    );
    let hung_up = Outcome::new(Blame::Operator, EndReason::HungUp);
    bench.shard.tell(CallId(2), ToCall::HangUp(hung_up), Instant::now());
    assert!(bench.shard.slots[healthy as usize].is_some());
    bench.round();
    assert!(bench.told().contains(&Told::Sip(CallId(2), SipWish::End(LegId::First, hung_up))));
}

#[test]
fn a_call_that_sip_has_given_up_goes_without_a_word_and_frees_its_ports() {
    let mut bench = Bench::new(SpeechPool::default());
    bench.offer(1, Plan::Echo);
    bench.round();
    bench.told();
    assert!(bench.shard.handle_message(ToShard::Drop(CallId(1)), Instant::now()));
    bench.round();
    assert_eq!(bench.told(), []);
    assert!(bench.shard.by_id.is_empty());
    assert!(bench.shard.ports.next_rested(Instant::now() + Duration::from_secs(31)).is_some());
}

#[test]
fn an_agent_that_takes_all_memory_for_speech_is_closed_with_1008_and_the_attendant_goes_on() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (mut agent, _) = listener.accept().expect("accepted");
    agent.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    let plan = ServicePlan::bare(ProviderKind::Twilio, "ws://127.0.0.1/", FirstSpeaker::Agent).expect("a URL");
    let mut bench = Bench::new(SpeechPool::new(200_000));
    let key = bench.offer(1, Plan::Service(Box::new(plan)));
    let connected = Connected { stream: AgentStream::Tcp(stream), tls: None, leftover: Vec::new(), place: None };
    bench.shard.tell(CallId(1), ToCall::AgentConnected(connected), Instant::now());
    bench.round();
    let speech = STANDARD.encode_to_string(vec![0x55; 60_000]);
    for _ in 0..5 {
        let text = format!(r#"{{"event":"media","media":{{"payload":"{speech}"}}}}"#);
        let mut frame = vec![0x81, 127];
        frame.extend((text.len() as u64).to_be_bytes());
        frame.extend(text.as_bytes());
        agent.write_all(&frame).expect("the box reads");
    }
    let deadline = Instant::now() + Duration::from_secs(8);
    while bench.shard.slots[key as usize].as_ref().is_some_and(|slot| slot.agent.is_some()) {
        assert!(Instant::now() < deadline, "the agent is still there");
        bench.round();
    }
    let mut heard = Vec::new();
    // The box may have reset what it did not read.
    let _ = agent.read_to_end(&mut heard);
    let [.., 0x88, 0x82, a, b, _, _, high, low] = heard[..] else { panic!("{} bytes and no close", heard.len()) };
    assert_eq!(u16::from_be_bytes([high ^ a, low ^ b]), 1008);
    assert!(bench.shard.slots[key as usize].is_some(), "the call goes on");
    assert!(!bench.told().iter().any(|told| matches!(told, Told::Sip(_, SipWish::End(..)))));
}

#[derive(Debug, PartialEq)]
enum Told {
    Sip(CallId, SipWish),
    Record(CallId, CallEvent),
}

struct Around(Sender<Told>);

impl Surroundings for Around {
    fn sip(&self, id: CallId, wish: SipWish) -> bool {
        self.0.send(Told::Sip(id, wish)).is_ok()
    }

    fn give(&self, _: CallId, _: Box<GivenLeg>) -> bool {
        false
    }

    fn record(&self, id: CallId, event: CallEvent) -> bool {
        self.0.send(Told::Record(id, event)).is_ok()
    }

    fn speak(&self, _: CallId, _: String) {}

    fn fetch(&self, _: CallId, _: u32, _: Box<Prepared>) {}

    fn shake(&self, _: CallId, _: HandshakeId, _: HandshakeInput) -> bool {
        false
    }

    fn connect(&self, _: CallId, _: AgentTarget, _: Option<SessionLimit>) -> bool {
        true
    }
}

struct Bench {
    shard: Shard<Around>,
    told: Receiver<Told>,
}

impl Bench {
    fn new(speech: SpeechPool) -> Self {
        let (sender, told) = channel();
        let (inbox, _) = inbox().expect("a descriptor");
        let config = ShardConfig {
            recorder: None,
            ports: Ports::new(33_000, 60_000, 0, 1, u64::from(std::process::id())),
            limits: CallLimits { duration_max: Duration::from_secs(60), ring_max: Duration::from_secs(45), speech },
        };
        Bench { shard: Shard::new(config, inbox, Around(sender), Instant::now()).expect("a shard"), told }
    }

    fn offer(&mut self, id: u128, plan: Plan) -> u32 {
        let sdp = b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 9 RTP/AVP 0\r\n".to_vec();
        let host = Ipv4Addr::LOCALHOST.into();
        let offered = OfferedCall {
            id: CallId(id),
            plan,
            sdp: Some(sdp),
            local: host,
            signalling: host,
            seed: 7,
            security: Default::default(),
            is_recorded: false,
        };
        self.shard.offer(offered, Instant::now());
        self.shard.by_id[&CallId(id)]
    }

    /// One round of the loop, without its wait.
    fn round(&mut self) {
        let (now, mut buffer) = (Instant::now(), vec![0; BUFFER_BYTES]);
        self.shard.read_sockets(&mut Vec::with_capacity(EVENTS), &mut buffer, now);
        let mut due = Vec::new();
        self.shard.wheel.advance(now, &mut due);
        due.into_iter().for_each(|key| self.shard.handle_due(key, now));
        self.shard.finish_slot(&mut buffer, now);
    }

    fn told(&mut self) -> Vec<Told> {
        self.told.try_iter().collect()
    }
}
