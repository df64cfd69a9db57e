//! The Route that a request towards a trunk is given.

use talkstack_control::port::TrunkRoute;
use talkstack_media::sip::message::Uri;

use super::super::accounts::Accounts;

/// The route set towards a trunk: its proxy, then what its registrar wants passed (RFC 3608 §6.1).
pub(in super::super) fn routes(accounts: &Accounts, trunk_id: &str, trunk: &TrunkRoute) -> Vec<String> {
    let service = accounts.lines.service_route(trunk_id).iter().cloned();
    route(trunk).into_iter().chain(service).collect()
}

/// The Route towards a trunk whose outbound proxy is written as a URI (RFC 3261 §8.1.2, §20.34). One that is written as
/// a host, or host and port, is where requests are sent and no more: it need not know its own name.
pub(in super::super) fn route(trunk: &TrunkRoute) -> Option<String> {
    let proxy = trunk.access.outbound_proxy.as_deref()?;
    let mut uri = Uri::parse(proxy)?.sip()?.clone();
    uri.params.set("lr", None);
    Some(format!("<{uri}>"))
}
