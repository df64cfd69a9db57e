//! What the resources of `/api/v1` share: fields in snake_case that are present, null or absent, and no unknown ones.

use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, RawQuery};
use axum::http::request::Parts;
use rusqlite::Connection;
use serde_json::Value;

use super::App;
use super::body::{Fields, QueryFields};
use super::error::ApiError;
use super::principal::Principal;
use crate::port::{Command, CommandId, CommandReply, PlaneError, RouteRule};
use crate::store::trunks::PutError;
use crate::store::{StoreError, routes, users};

/// The request comes over the admin socket, whose peer owns the box.
#[derive(Debug, Clone, Copy)]
pub(super) struct OverAdminSocket;

/// The owner of the box asks, by credential or over the admin socket.
pub(super) struct Owner;

impl FromRequestParts<App> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.extensions.get::<OverAdminSocket>().is_some() {
            return Ok(Owner);
        }
        let Principal(user) = Principal::from_request_parts(parts, app).await?;
        if user.is_owner {
            return Ok(Owner);
        }
        Err(ApiError::new(403, "owner_only", "Only the owner of the box may do this."))
    }
}

/// The account that asks; over the admin socket, the owner's.
pub(super) struct Account(pub(super) String);

impl FromRequestParts<App> for Account {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.extensions.get::<OverAdminSocket>().is_none() {
            let Principal(user) = Principal::from_request_parts(parts, app).await?;
            return Ok(Account(user.id));
        }
        let owner = app.store.read(|connection| users::owner(connection).map_err(StoreError::from)).await?;
        let nobody = || ApiError::new(409, "no_owner", "Nobody owns the box yet; run talkstack setup first.");
        owner.map(|owner| Account(owner.id)).ok_or_else(nobody)
    }
}

/// Which part of a list is asked for.
pub(super) struct Page {
    /// What the part before named as its `next_cursor`.
    pub(super) cursor: Option<String>,
    /// So many at the most.
    pub(super) limit: u32,
}

impl Page {
    /// Reads `?cursor=&limit=`.
    ///
    /// # Errors
    /// 400 when the limit is no number above 0, or one of them is given twice.
    pub(super) fn read(query: RawQuery) -> Result<Self, ApiError> {
        let pairs = url::form_urlencoded::parse(query.0.unwrap_or_default().as_bytes()).into_owned().collect();
        Page::of(&QueryFields(pairs))
    }

    /// The same, of a query that has been read.
    pub(super) fn of(query: &QueryFields) -> Result<Self, ApiError> {
        let bad = || ApiError::new(400, "bad_filter", "limit must be a whole number above 0.");
        let limit = query.text(&["limit"])?.map(|text| text.parse().ok().filter(|limit| *limit > 0).ok_or_else(bad));
        Ok(Page {
            cursor: query.text(&["cursor"])?.map(str::to_owned),
            limit: limit.transpose()?.map_or(PAGE, |limit: u64| limit.min(PAGE_MAX.into()) as u32),
        })
    }
}

/// 100 rows: a screen or two.
const PAGE: u32 = 100;

/// 1,000 rows of 300 bytes.
const PAGE_MAX: u32 = 1000;

/// A text, or `None` when absent.
///
/// # Errors
/// 400 when it is something else.
pub(super) fn text(fields: &Fields, name: &str) -> Result<Option<String>, ApiError> {
    match fields.given(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad_field(name, "must be a text")),
    }
}

/// A text, null to take it away, or `None` when absent.
///
/// # Errors
/// 400 when it is something else.
pub(super) fn clearable(fields: &Fields, name: &str) -> Result<Option<Option<String>>, ApiError> {
    match fields.given(name) {
        Some(Value::Null) => Ok(Some(None)),
        _ => Ok(text(fields, name)?.map(Some)),
    }
}

/// Yes or no, or `None` when absent.
///
/// # Errors
/// 400 when it is something else.
pub(super) fn flag(fields: &Fields, name: &str) -> Result<Option<bool>, ApiError> {
    match fields.given(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(bad_field(name, "must be true or false")),
    }
}

/// A whole number within a range, or `None` when absent.
///
/// # Errors
/// 400 when it is something else.
pub(super) fn number(fields: &Fields, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
    let Some(value) = fields.given(name) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .map(Some)
        .ok_or_else(|| bad_field(name, &format!("must be a whole number of {} to {}", range.start(), range.end())))
}

/// A list of texts, or `None` when absent.
///
/// # Errors
/// 400 when it is something else or too long.
pub(super) fn texts(fields: &Fields, name: &str, max: usize) -> Result<Option<Vec<String>>, ApiError> {
    let wrong = || bad_field(name, &format!("must be a list of at most {max} texts"));
    let Some(value) = fields.given(name) else { return Ok(None) };
    let list = value.as_array().filter(|list| list.len() <= max).ok_or_else(wrong)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
}

/// 400: a field that cannot be used.
pub(super) fn bad_field(name: &str, what: &str) -> ApiError {
    ApiError::new(400, "bad_field", format!("{name} {what}."))
}

/// 400: fewer would do.
pub(super) fn too_many(what: &str, max: i64) -> ApiError {
    ApiError::new(400, "too_many", format!("There are {max} {what} already; remove one first."))
}

/// Asks the call plane.
///
/// # Errors
/// 503 when it is not there, 504 when it does not answer in time.
pub(super) async fn ask_plane(app: &App, command: Command) -> Result<CommandReply, ApiError> {
    let command_id = CommandId(new_id("cmd"));
    app.plane.command(command_id, command).await.map_err(|error| match error {
        PlaneError::NotConnected => {
            ApiError::new(503, "call_plane_away", "What carries the calls is not connected; try again in a moment.")
        }
        PlaneError::TimedOut => {
            ApiError::new(504, "call_plane_silent", "What carries the calls did not answer in time.")
        }
    })
}

/// The name of the first route that `is_it` holds of.
///
/// # Errors
/// [`StoreError`].
pub(super) fn route_where(
    connection: &Connection,
    is_it: impl Fn(&RouteRule) -> bool,
) -> Result<Option<String>, StoreError> {
    let found = routes::all(connection)?.into_iter().map(|route| route.rule).find(|rule| is_it(rule));
    Ok(found.map(|rule| rule.name))
}

/// 409: a route leads there.
pub(super) fn in_use(what: &str, route: &str) -> ApiError {
    let message = format!("The route {route} names this {what}; change or remove the route first.");
    ApiError::new(409, "in_use", message)
}

/// An id of one kind.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::NameTaken => ApiError::new(409, "name_taken", "Another one has this name."),
            PutError::NumberTaken => ApiError::new(409, "number_taken", "A number is on another trunk already."),
            PutError::Sql(error) => error.into(),
        }
    }
}
