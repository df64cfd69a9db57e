use talkstack_media::sdp::{DtlsPeer, DtlsRole};

use super::super::inbox::inbox;
use super::*;

#[test]
fn a_handshake_goes_from_its_beginning_to_its_keys_and_is_forgotten() {
    let mut bench = Bench::new();
    let keys = bench.shake();
    assert!(
        matches!(&keys[..], [HandshakeOutput::Keyed(here), HandshakeOutput::Keyed(there)] if here.local == there.remote[0])
    );
    assert_eq!(bench.ends[0].live.len(), 1, "what the far end repeats is answered");
    bench.ends[0].handle_timeout(bench.now + Duration::from_secs(10));
    assert!(bench.ends[0].live.is_empty() && bench.ends[0].poll_timeout().is_none());
}

#[test]
fn what_nobody_has_begun_and_what_is_too_much_fails_at_once() {
    let mut bench = Bench::new();
    bench.tell(0, ID, HandshakeInput::Datagram(vec![22; 40]));
    assert_eq!(bench.outputs(0), [HandshakeOutput::Failed(DtlsError::Silent)]);
    for number in 0..LIVE_MAX as u32 {
        bench.begin(0, HandshakeId { number, ..ID });
    }
    assert!(bench.outputs(0).iter().all(|output| matches!(output, HandshakeOutput::Send(_))));
    bench.begin(0, HandshakeId { number: u32::MAX, ..ID });
    assert_eq!(bench.outputs(0), [HandshakeOutput::Failed(DtlsError::Setup)]);
    // Nobody answers any of them.
    bench.ends[0].handle_timeout(bench.now + Duration::from_secs(16));
    let outputs = bench.outputs(0);
    assert_eq!(outputs.len(), LIVE_MAX);
    assert!(outputs.iter().all(|output| *output == HandshakeOutput::Failed(DtlsError::Silent)));
    assert!(bench.ends[0].live.is_empty());
}

/// Two boxes' threads, without the threads.
struct Bench {
    ends: [Handshakes; 2],
    shard: Address<ToShard>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let (_, shard) = inbox().expect("a descriptor");
        let ends = [(); 2].map(|()| Handshakes::new(Arc::new(Identity::new().expect("made"))));
        Bench { ends, shard, now: Instant::now() }
    }

    fn tell(&mut self, at: usize, id: HandshakeId, input: HandshakeInput) {
        self.ends[at].handle(Told { shard: self.shard.clone(), call: CallId(1), id, input }, self.now);
    }

    fn begin(&mut self, at: usize, id: HandshakeId) {
        let role = if at == 0 { DtlsRole::Client } else { DtlsRole::Server };
        let peer = DtlsPeer::new(vec![self.ends[1 - at].identity.fingerprint()], role);
        self.tell(at, id, HandshakeInput::Begin(Box::new(peer)));
    }

    fn outputs(&mut self, at: usize) -> Vec<HandshakeOutput> {
        self.ends[at].outputs.drain(..).map(|(.., output)| output).collect()
    }

    /// What both come to.
    fn shake(&mut self) -> Vec<HandshakeOutput> {
        self.begin(1, ID);
        self.begin(0, ID);
        let mut come_to = [None, None];
        for _ in 0..20 {
            for (at, end) in come_to.iter_mut().enumerate() {
                for output in self.outputs(at) {
                    match output {
                        HandshakeOutput::Send(bytes) => self.tell(1 - at, ID, HandshakeInput::Datagram(bytes)),
                        output => *end = Some(output),
                    }
                }
            }
        }
        come_to.into_iter().flatten().collect()
    }
}

const ID: HandshakeId = HandshakeId { ssrc: 1, number: 1 };
