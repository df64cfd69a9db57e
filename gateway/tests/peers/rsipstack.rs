//! rsipstack, a SIP stack by others, as caller and as called side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsipstack::EndpointBuilder;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, Method, Response, StatusCode, Uri};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::Daemon;

#[test]
fn rsipstack_calls_holds_resumes_and_hangs_up() {
    let daemon = Daemon::serve(&[]);
    let target = daemon.sip();
    let cells = run(async move {
        let stack = Stack::start().await;
        let (dialog, answer) = stack.calls(&format!("sip:echo@{target}")).await;
        assert_eq!(answer.status_code, StatusCode::OK);
        let mut cells = vec![("call to the box, 100rel supported", Cell::Works)];
        for (name, direction) in [("hold by re-INVITE", "sendonly"), ("resume by re-INVITE", "sendrecv")] {
            let answer = dialog.reinvite(Some(vec![content()]), Some(sdp(direction))).await;
            cells.push((name, verdict(answer)));
        }
        cells.push(("OPTIONS in the dialog", verdict(dialog.options(None).await)));
        dialog.bye().await.expect("answered");
        cells
    });
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    row("rsipstack, calling", &cells);
}

#[test]
fn rsipstack_is_called_and_hangs_up() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let stack = std::thread::spawn(move || {
        run(async move {
            let stack = Stack::start().await;
            sender.send(stack.address).expect("the test waits");
            stack.take_call().await;
        });
    });
    let site = Site::new(&[], receiver.recv().expect("it listens"), json!({}));
    let call = site.dial("+15550000001");
    assert_eq!(site.ended(&call)["status"], "completed");
    stack.join().expect("it saw its call through");
    row("rsipstack, called", &[("call of the box: ringing, answer, BYE", Cell::Works)]);
}

/// The stack on a UDP port of its own.
struct Stack {
    layer: Arc<DialogLayer>,
    incoming: TransactionReceiver,
    address: SocketAddr,
}

impl Stack {
    async fn start() -> Self {
        let token = CancellationToken::new();
        let transports = TransportLayer::new(token.clone());
        let any = "127.0.0.1:0".parse().expect("an address");
        let udp = UdpConnection::create_connection(any, None, Some(token.child_token())).await.expect("a port");
        let address = udp.get_addr().get_socketaddr().expect("bound");
        transports.add_transport(udp.into());
        let endpoint = EndpointBuilder::new().with_cancel_token(token).with_transport_layer(transports).build();
        let incoming = endpoint.incoming_transactions().expect("the only taker");
        let layer = Arc::new(DialogLayer::new(endpoint.inner.clone()));
        let serving = endpoint.inner.clone();
        tokio::spawn(async move { serving.serve().await });
        Stack { layer, incoming, address }
    }

    fn contact(&self) -> Uri {
        Uri::try_from(format!("sip:rsipstack@{}", self.address).as_str()).expect("a URI")
    }

    async fn calls(&self, uri: &str) -> (InviteDialog, Response) {
        let (states, _) = self.layer.new_dialog_state_channel();
        let order = InviteOption {
            caller: self.contact(),
            callee: Uri::try_from(uri).expect("a URI"),
            contact: self.contact(),
            content_type: Some("application/sdp".into()),
            offer: Some(sdp("sendrecv")),
            support_prack: true,
            ..InviteOption::default()
        };
        let (dialog, answer) = self.layer.do_invite(order, states).await.expect("the box answers");
        (dialog, answer.expect("a final answer"))
    }

    /// Rings, answers, and hangs up once the answer is acknowledged.
    async fn take_call(mut self) {
        let (states, mut changes) = self.layer.new_dialog_state_channel();
        let mut invite = loop {
            let transaction = self.incoming.recv().await.expect("a call comes");
            if transaction.original.method == Method::Invite {
                break transaction;
            }
        };
        let contact = Some(self.contact());
        let dialog =
            self.layer.get_or_create_server_invite(&invite, states, None, contact).expect("an INVITE of the box's");
        let mut handled = dialog.clone();
        tokio::spawn(async move { handled.handle(&mut invite).await });
        dialog.ringing(None, None).expect("sent");
        dialog.accept(Some(vec![content()]), Some(sdp("sendrecv"))).expect("sent");
        while !changes.recv().await.expect("the call goes on").is_confirmed() {}
        dialog.bye().await.expect("answered");
    }
}

/// Runs what the stack does, for ten seconds at the most.
fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(Duration::from_secs(9), body).await.expect("in time") })
}

fn verdict<E: std::fmt::Debug>(answer: Result<Option<Response>, E>) -> Cell {
    match answer {
        Ok(Some(answer)) if answer.status_code == StatusCode::OK => Cell::Works,
        other => panic!("{other:?}"),
    }
}

fn content() -> Header {
    Header::ContentType("application/sdp".into())
}

fn sdp(direction: &str) -> Vec<u8> {
    let text = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    format!("{text}a={direction}\r\n").into_bytes()
}
