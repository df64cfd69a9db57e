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

/// The trunks that may carry a call which is to present `from`, the first to be tried first: by priority, and among
/// equals those that list the number before those that present any. Trunks that would put a number of their own in its
/// place come last. None: nobody may present it.
pub fn carriers(snapshot: &Snapshot, from: &str) -> Vec<Carrier> {
    let digits = from.strip_prefix('+').unwrap_or(from);
    let mut ranked: Vec<(Standing, u32, Carrier)> = snapshot
        .trunks
        .iter()
        .filter_map(|(id, trunk)| {
            let (standing, presents) = standing(trunk, digits)?;
            Some((standing, trunk.policy.priority, Carrier { id: id.clone(), trunk: trunk.clone(), presents }))
        })
        .collect();
    ranked.sort_by_key(|(standing, priority, _)| (*standing == Standing::Replaces, *priority, *standing));
    ranked.into_iter().map(|(_, _, carrier)| carrier).collect()
}

/// The number that a trunk presents for a call of `from`, E.164 with `+`; `None` when it may carry no such call.
pub fn presents(trunk: &TrunkRoute, from: &str) -> Option<String> {
    standing(trunk, from.strip_prefix('+').unwrap_or(from)).map(|(_, number)| number)
}

/// How a trunk stands to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It lists it.
    Lists,
    /// It is the default, lists none and presents any.
    PresentsAny,
    /// It presents its own number in its place.
    Replaces,
}

fn standing(trunk: &TrunkRoute, digits: &str) -> Option<(Standing, String)> {
    let of = |standing, digits: &str| Some((standing, format!("+{digits}")));
    if trunk.numbers.iter().any(|number| number == digits) {
        return of(Standing::Lists, digits);
    }
    if trunk.is_default && trunk.numbers.is_empty() {
        return of(Standing::PresentsAny, digits);
    }
    let own = trunk.numbering.default_number.as_deref()?;
    let own = own.strip_prefix('+').unwrap_or(own);
    let is_own = trunk.numbers.is_empty() || trunk.numbers.iter().any(|number| number == own);
    if is_own { of(Standing::Replaces, own) } else { None }
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
    let quoted = |name: &str| {
        let clean: String = name.chars().filter(|letter| !letter.is_control()).take(NAME_LETTERS_MAX).collect();
        format!("\"{}\" ", clean.replace('\\', "\\\\").replace('"', "\\\""))
    };
    format!("{}<sip:{user}@{domain}>", name.map(quoted).unwrap_or_default())
}

/// RFC 3323 §4.1.1.3.
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// 64 letters: more than a telephone shows.
const NAME_LETTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_trunk_does_not_list_is_never_presented_on_it() {
        for (is_default, numbers, own, expected) in [
            (true, &["361"][..], None, Some("+361")),
            (false, &["361"], None, Some("+361")),
            (true, &[], None, Some("+361")),
            (false, &[], None, None),
            (true, &["362"], None, None),
            (false, &["362"], None, None),
            (true, &["362"], Some("362"), Some("+362")),
            (false, &["362"], Some("+362"), Some("+362")),
            (false, &["362"], Some("363"), None),
            (false, &[], Some("362"), Some("+362")),
            (true, &["361"], Some("362"), Some("+361")),
        ] {
            let trunk = trunk(is_default, numbers, own);
            for from in ["+361", "361"] {
                assert_eq!(presents(&trunk, from).as_deref(), expected, "{is_default} {numbers:?} {own:?}");
            }
        }
    }

    #[test]
    fn trunks_are_tried_by_priority_and_one_that_changes_the_number_last() {
        let mut snapshot = Snapshot::default();
        let mut add = |id: &str, priority, mut trunk: TrunkRoute| {
            trunk.policy.priority = priority;
            snapshot.trunks.insert(id.into(), trunk);
        };
        add("a", 0, trunk(false, &["369"], Some("369")));
        add("b", 10, trunk(false, &["361"], None));
        add("c", 5, trunk(true, &[], None));
        add("d", 5, trunk(false, &["361"], None));
        add("e", 0, trunk(false, &["365"], None));
        let found = |from| -> Vec<_> {
            carriers(&snapshot, from).into_iter().map(|carrier| (carrier.id, carrier.presents)).collect()
        };
        let own = |id: &str, number: &str| (id.to_owned(), number.to_owned());
        assert_eq!(found("+361"), [own("d", "+361"), own("c", "+361"), own("b", "+361"), own("a", "+369")]);
        assert_eq!(found("+365"), [own("e", "+365"), own("c", "+365"), own("a", "+369")]);
        assert_eq!(carriers(&Snapshot::default(), "+361"), []);
    }

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

    fn trunk(is_default: bool, numbers: &[&str], own: Option<&str>) -> TrunkRoute {
        let mut trunk = TrunkRoute::new("t", "trunk.example");
        trunk.is_default = is_default;
        trunk.numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
        trunk.numbering.default_number = own.map(str::to_owned);
        trunk
    }
}
