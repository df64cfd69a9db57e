//! What a trunk is told of who calls: which number, in which header fields, and how much of it in secret.
//!
//! ```text
//!   wanted number ─▶ carriers: trunks that may present it ─▶ present ─▶ From, P-Asserted-Identity, Privacy …
//! ```
//!
//! A number that a trunk does not list is never presented on it.

use talkstack_control::port::{CallerIdField, Snapshot, TrunkRoute};
use talkstack_media::sip::message::Host;

use crate::dial::host_of;

/// A trunk that may carry a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// The trunk's id.
    pub id: String,
    /// The trunk as it was when the call began.
    pub trunk: TrunkRoute,
    /// The number it presents, E.164 with `+`: the wanted one, or the trunk's own in its place.
    pub presents: String,
}

/// Whether the called side is told who calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Disclosure {
    /// Everybody is.
    #[default]
    Shown,
    /// The trunk alone is (RFC 3323 §4.1, RFC 3325 §7).
    Withheld,
}

/// The header fields that say who calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Presentation {
    /// The whole value of From, without tag.
    pub from: String,
    /// The fields beside it.
    pub fields: Vec<(&'static str, String)>,
}

/// Numbers are personal.
impl std::fmt::Debug for Presentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presentation").finish_non_exhaustive()
    }
}

/// The trunks that may carry a call which is to present `from`, the first to be tried first ([`Snapshot::carriers`]).
pub fn carriers(snapshot: &Snapshot, from: &str) -> Vec<Carrier> {
    let carrier = |(id, trunk, presents): (&str, &TrunkRoute, String)| Carrier {
        id: id.to_owned(),
        trunk: trunk.clone(),
        presents,
    };
    snapshot.carriers(from).into_iter().map(carrier).collect()
}

/// Writes who calls as the trunk wants it. `name` is shown with the number where there is one.
pub fn present(trunk: &TrunkRoute, number: &str, name: Option<&str>, disclosure: Disclosure) -> Presentation {
    let domain = domain(trunk);
    let shown = address(name, number, &domain);
    if disclosure == Disclosure::Withheld {
        // RFC 3323 §4.1.1.3 has the From, RFC 3325 §9.3 the priv-value. The trunk must know the number all the same.
        let told = match trunk.numbering.caller_id {
            CallerIdField::From | CallerIdField::Asserted => ("P-Asserted-Identity", shown),
            CallerIdField::Preferred => ("P-Preferred-Identity", shown),
            CallerIdField::RemoteParty => ("Remote-Party-ID", format!("{shown};party=calling;screen=yes;privacy=full")),
        };
        return Presentation { from: ANONYMOUS.into(), fields: vec![told, ("Privacy", "id".into())] };
    }
    let account = trunk.username.as_deref().filter(|_| trunk.numbering.caller_id == CallerIdField::Preferred);
    let from = account.map_or_else(|| shown.clone(), |account| address(name, account, &domain));
    let fields = match trunk.numbering.caller_id {
        CallerIdField::From => Vec::new(),
        CallerIdField::Asserted => vec![("P-Asserted-Identity", shown)],
        CallerIdField::Preferred => vec![("P-Preferred-Identity", shown)],
        CallerIdField::RemoteParty => {
            vec![("Remote-Party-ID", format!("{shown};party=calling;screen=yes;privacy=off"))]
        }
    };
    Presentation { from, fields }
}

/// Names nobody, not even to the trunk: for a call whose number it may not be shown. The account, where there is one,
/// says whose call it is.
pub fn anonymous(trunk: &TrunkRoute) -> Presentation {
    let from = match &trunk.username {
        Some(account) => address(None, account, &domain(trunk)),
        None => ANONYMOUS.to_owned(),
    };
    Presentation { from, fields: Vec::new() }
}

/// The domain in our From and in the Request-URI.
pub fn domain(trunk: &TrunkRoute) -> Host {
    let own = trunk.access.domain.as_deref().map(host_of);
    // A name that cannot stand in a URI is none.
    own.filter(|host| Host::parse(&host.to_string()).is_some()).unwrap_or_else(|| host_of(&trunk.host))
}

fn address(name: Option<&str>, user: &str, domain: &Host) -> String {
    let cut = |name: &str| quoted(name.chars().filter(|letter| !letter.is_control()).take(NAME_LETTERS_MAX));
    format!("{}<sip:{user}@{domain}>", name.map(cut).unwrap_or_default())
}

/// A display name as a quoted string (RFC 3261 §25.1), with a space behind it.
pub(crate) fn quoted(name: impl Iterator<Item = char>) -> String {
    let mut quoted = String::from('"');
    for letter in name.filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push_str("\" ");
    quoted
}

/// RFC 3323 §4.1.1.3.
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// 64 letters: more than a telephone shows.
const NAME_LETTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_where_the_trunk_wants_it() {
        let shown = "<sip:+361@trunk.example>";
        let party = format!("{shown};party=calling;screen=yes;privacy=off");
        for (field, from, name, value) in [
            (CallerIdField::From, shown, None, ""),
            (CallerIdField::Asserted, shown, Some("P-Asserted-Identity"), shown),
            (CallerIdField::Preferred, "<sip:account@trunk.example>", Some("P-Preferred-Identity"), shown),
            (CallerIdField::RemoteParty, shown, Some("Remote-Party-ID"), &*party),
        ] {
            let presentation = present(&of_field(field), "+361", None, Disclosure::Shown);
            assert_eq!(presentation.from, from);
            let expected: Vec<_> = name.map(|name| (name, value.to_owned())).into_iter().collect();
            assert_eq!(presentation.fields, expected);
        }
    }

    #[test]
    fn a_withheld_number_is_told_to_the_trunk_alone() {
        let asserted = "<sip:+361@trunk.example>";
        let party = format!("{asserted};party=calling;screen=yes;privacy=full");
        for (field, name, value) in [
            (CallerIdField::From, "P-Asserted-Identity", asserted),
            (CallerIdField::Asserted, "P-Asserted-Identity", asserted),
            (CallerIdField::Preferred, "P-Preferred-Identity", asserted),
            (CallerIdField::RemoteParty, "Remote-Party-ID", &*party),
        ] {
            let presentation = present(&of_field(field), "+361", None, Disclosure::Withheld);
            assert_eq!(presentation.from, "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
            assert_eq!(presentation.fields, [(name, value.to_owned()), ("Privacy", "id".to_owned())]);
        }
    }

    #[test]
    fn the_domain_is_the_trunk_s_and_a_name_cannot_break_out_of_its_quotes() {
        let mut trunk = of_field(CallerIdField::From);
        trunk.access.domain = Some("ims.example".into());
        let presentation = present(&trunk, "+361", Some("A \"B\" \\ \r\nX: y"), Disclosure::Shown);
        assert_eq!(presentation.from, r#""A \"B\" \\ X: y" <sip:+361@ims.example>"#);
        trunk.access.domain = Some("not a domain>".into());
        assert_eq!(domain(&trunk), Host::Name("trunk.example".into()));
    }

    fn of_field(caller_id: CallerIdField) -> TrunkRoute {
        let mut trunk = TrunkRoute::new("t", "trunk.example");
        trunk.username = Some("account".into());
        trunk.numbering.caller_id = caller_id;
        trunk
    }
}
