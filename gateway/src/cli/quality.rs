//! How the legs of a call sound, in words: a line for each direction.

use serde_json::Value;

use super::resource::fields_text;

/// A call as it is shown, with its figures of sound at the end.
pub(super) fn call_text(mut call: Value) -> String {
    let quality = call.as_object_mut().and_then(|fields| fields.remove("quality")).unwrap_or_default();
    let mut text = fields_text(&call);
    for leg in ["first", "second"] {
        let figures = &quality[leg];
        if let Some(encryption) = encryption(&figures["encryption"]) {
            text.push_str(&format!("{:22} {encryption}\n", format!("encryption {leg}")));
        }
        for (direction, way) in [("inbound", "in"), ("outbound", "out")] {
            if figures[direction].is_object() {
                let name = format!("sound {leg} {way}");
                text.push_str(&format!("{name:22} {}\n", line(&figures[direction], &figures["round_trip_ms"])));
            }
        }
    }
    text
}

/// How the keys were agreed on, and what for; `None` for a leg in the clear.
fn encryption(figures: &Value) -> Option<String> {
    let keys = figures["keys"].as_str()?.to_uppercase();
    Some(
        figures["suite"].as_str().map_or_else(|| format!("{keys}, no keys yet"), |suite| format!("{suite}, by {keys}")),
    )
}

/// What is known of a direction, in the order in which one asks for it.
fn line(figures: &Value, round_trip_ms: &Value) -> String {
    let known = [
        ("MOS", &figures["mos"], ""),
        ("packets", &figures["packets"], ""),
        ("loss", &figures["loss_percent"], " %"),
        ("late", &figures["late"], ""),
        ("concealed", &figures["concealed_ms"], " ms"),
        ("jitter", &figures["jitter_ms"], " ms"),
        ("round trip", round_trip_ms, " ms"),
        ("speech", &figures["level_dbov"], " dBov"),
        ("clipped", &figures["clipped_percent"], " %"),
    ];
    let known = known.iter().filter(|(_, value, _)| value.is_number());
    known.map(|(name, value, unit)| format!("{name} {value}{unit}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_direction_of_each_leg_is_a_line_and_what_is_not_known_is_left_out() {
        let call = json!({ "sid": "CA1", "quality": {
            "first": { "round_trip_ms": 40.5, "encryption": { "keys": "dtls", "suite": "AEAD_AES_256_GCM" }, "inbound": { "mos": 4.3, "packets": 900, "loss_percent": 0.4, "late": 1 },
                "outbound": { "mos": null, "packets": 900, "loss_percent": null } },
            "second": null } });
        let text = call_text(call);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[1], format!("{:22} AEAD_AES_256_GCM, by DTLS", "encryption first"));
        assert_eq!(
            lines[2].trim_end(),
            format!("{:22} MOS 4.3, packets 900, loss 0.4 %, late 1, round trip 40.5 ms", "sound first in")
        );
        assert_eq!(lines[3].trim_end(), format!("{:22} packets 900, round trip 40.5 ms", "sound first out"));
    }
}
