//! SIPp by steps: what it sends and what it wants to see, as a caller or as the trunk that is called.

use std::net::SocketAddr;

use super::process::{Peer, free_port};
use crate::daemon::wait_until;

/// A scenario that is being written.
pub(crate) struct Scenario {
    xml: String,
    is_called: bool,
    /// The number of the last request of its own.
    cseq: u32,
}

impl Scenario {
    /// SIPp calls the box.
    pub(crate) fn caller() -> Self {
        Scenario { xml: String::new(), is_called: false, cseq: 0 }
    }

    /// The box calls SIPp; the INVITE must have each of these header fields.
    pub(crate) fn called(wanted: &[(&str, &str)]) -> Self {
        let scenario = Scenario { xml: String::new(), is_called: true, cseq: 0 };
        scenario.gets("INVITE", &[&[("From", ".*"), ("To", ".*")], wanted].concat())
    }

    /// Sends a request of the dialog, or the INVITE that makes it; `fields` are whole lines.
    pub(crate) fn sends(mut self, method: &str, fields: &[&str], sdp: Option<&str>) -> Self {
        // CANCEL and ACK have their INVITE's number.
        if !["ACK", "CANCEL"].contains(&method) {
            self.cseq += 1;
        }
        let number = self.cseq;
        self.sends_numbered(method, number, fields, sdp)
    }

    /// As [`Scenario::sends`], with a number of the test's choice.
    pub(crate) fn sends_numbered(mut self, method: &str, number: u32, fields: &[&str], sdp: Option<&str>) -> Self {
        let (uri, from, to) = if self.is_called {
            ("[next_url]", "[$to];tag=[call_number]", "[$from]")
        } else if number == 1 && method == "INVITE" {
            ("sip:[service]@[remote_ip]:[remote_port]", CALLER, "<sip:[service]@[remote_ip]:[remote_port]>")
        } else {
            ("[next_url]", CALLER, "<sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]")
        };
        // SIPp repeats what it has sent until it gets what it wants; an ACK gets nothing.
        let retrans = if method == "ACK" { "" } else { " retrans=\"500\"" };
        let branch = if method == "CANCEL" { "[branch-2]" } else { "[branch]" };
        self.xml.push_str(&format!(
            "<send{retrans}><![CDATA[\n\n{method} {uri} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport\n\
             From: {from}\nTo: {to}\nCall-ID: [call_id]\nCSeq: {number} {method}\nMax-Forwards: 70\n\
             Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n{}{}]]></send>\n",
            lines(fields),
            body(sdp)
        ));
        self
    }

    /// Answers the last request; `to` is the tag of the dialog, or of another branch.
    pub(crate) fn answers(mut self, status: &str, tag: &str, fields: &[&str], sdp: Option<&str>) -> Self {
        let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        self.xml.push_str(&format!(
            "<send><![CDATA[\n\nSIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n\
             Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n{}{}]]></send>\n",
            lines(fields),
            body(sdp)
        ));
        self
    }

    /// Answers the INVITE whose header fields were kept, whatever came since.
    pub(crate) fn answers_invite(mut self, status: &str, tag: &str, fields: &[&str], sdp: Option<&str>) -> Self {
        self.xml.push_str(&format!(
            "<send><![CDATA[\n\nSIP/2.0 {status}\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={tag}\n[last_Call-ID:]\n\
             CSeq: 1 INVITE\nContact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n{}{}]]></send>\n",
            lines(fields),
            body(sdp)
        ));
        self
    }

    /// Waits for a request, or for a response by its status; each header field must match, and is kept under its name
    /// in small letters without its hyphens.
    pub(crate) fn gets(mut self, what: &str, wanted: &[(&str, &str)]) -> Self {
        let kind = if what.starts_with(|c: char| c.is_ascii_digit()) { "response" } else { "request" };
        let kept = if what == "INVITE" && self.is_called { &[("Via", ".*")][..] } else { &[] };
        let checks: String = wanted
            .iter()
            .chain(kept)
            .map(|(name, pattern)| {
                let mut variable = name.to_lowercase().replace('-', "");
                if what != "INVITE" && ["from", "to", "via"].contains(&variable.as_str()) {
                    // Those of the INVITE are still needed.
                    variable.push('2');
                }
                let pattern = pattern.replace('"', "&quot;").replace('<', "&lt;");
                format!(
                    "<ereg regexp=\"{pattern}\" search_in=\"hdr\" header=\"{name}:\" check_it=\"true\" \
                     assign_to=\"{variable}\"/>\n"
                )
            })
            .collect();
        // Where the dialog's requests go is told by what makes the dialog.
        let rrs = if ["INVITE", "180", "183", "200"].contains(&what) && self.cseq <= 1 { " rrs=\"true\"" } else { "" };
        self.xml.push_str(&format!("<recv {kind}=\"{what}\"{rrs}><action>\n{checks}</action></recv>\n"));
        if checks.is_empty() {
            self.xml = self.xml.replace("<action>\n</action>", "");
        }
        self
    }

    /// Takes a response that may come, or not.
    pub(crate) fn may_get(mut self, status: &str) -> Self {
        self.xml.push_str(&format!("<recv response=\"{status}\" optional=\"true\"/>\n"));
        self
    }

    /// Lets so long pass.
    pub(crate) fn waits_ms(mut self, time: u32) -> Self {
        self.xml.push_str(&format!("<pause milliseconds=\"{time}\"/>\n"));
        self
    }

    /// Plays it as a caller to its end; else what SIPp says.
    pub(crate) fn calls(self, target: SocketAddr, user: &str) -> Result<(), String> {
        let target = target.to_string();
        let port = free_port().to_string();
        self.start(&[&target, "-s", user, "-p", &port]).finishes()
    }

    /// Waits for a call on a free port.
    pub(crate) fn listens(self) -> (SocketAddr, Peer) {
        let address = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        let peer = self.start(&["-p", &address.port().to_string()]);
        wait_until("SIPp listens", || super::process::is_taken(address).then_some(()));
        (address, peer)
    }

    fn start(self, arguments: &[&str]) -> Peer {
        let dir = tempfile::tempdir().expect("a directory");
        let mut names: Vec<&str> =
            self.xml.split("assign_to=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        names.sort_unstable();
        names.dedup();
        let used =
            if names.is_empty() { String::new() } else { format!("<Reference variables=\"{}\"/>\n", names.join(",")) };
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"x\">\n{}{used}</scenario>\n",
            self.xml
        );
        std::fs::write(dir.path().join("scenario.xml"), xml).expect("written");
        let fixed = [
            "-sf",
            "scenario.xml",
            "-m",
            "1",
            "-i",
            "127.0.0.1",
            "-t",
            "u1",
            "-timeout",
            "9",
            "-timeout_error",
            "-nostdin",
            "-trace_err",
            "-error_file",
            "errors",
            "-trace_msg",
            "-ringbuffer_size",
            "1000000",
            "-ringbuffer_files",
            "2",
            "-message_file",
            "messages",
        ];
        Peer::start_in(dir, "sipp", &[arguments, &fixed].concat())
    }
}

fn lines(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("{field}\n")).collect()
}

fn body(sdp: Option<&str>) -> String {
    match sdp {
        Some(sdp) => format!("Content-Type: application/sdp\nContent-Length: [len]\n\n{sdp}\n"),
        None => "Content-Length: 0\n\n".into(),
    }
}

/// A description of SIPp's own, G.711 both ways.
pub(crate) const SDP: &str = "v=0\no=sipp 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\n\
    m=audio [media_port] RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\na=sendrecv";

/// The same, on hold.
pub(crate) const HELD: &str = "v=0\no=sipp 1 2 IN IP4 [local_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\n\
    m=audio [media_port] RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\na=sendonly";

const CALLER: &str = "<sip:sipp@[local_ip]:[local_port]>;tag=[call_number]";
