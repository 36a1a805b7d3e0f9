//! An object as `ConvertTo-Json` writes it: names in any case, lists of one as a scalar, dates in three forms, and words in the place of
//! what lay too deep.

use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::{Map, Value};

/// An object of an export.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    /// Its file and its name.
    pub(super) at: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn new(file: &str, map: &'a Map<String, Value>) -> Self {
        let mut object = Self { at: file.to_owned(), map };
        if let Ok(Some(name)) = object.text("Name").or_else(|_| object.text("Identity")) {
            object.at = format!("{file}: {}", crate::printable::printable(&name));
        }
        object
    }

    /// All properties; annotations about the types of others are none.
    pub(super) fn properties(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let map = self.map;
        map.iter()
            .map(|(key, value)| (key.as_str(), value))
            .filter(|(key, _)| !(key.ends_with("@odata.type") || key.ends_with("@data.type")))
    }

    /// A property, which must be there.
    fn get(&self, key: &str) -> Result<&'a Value, String> {
        let mut found = self.map.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err("it stands there twice".into()),
            (None, _) => Err("the export does not hold it: export whole objects, as the recipe says".into()),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.keys().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// A text; none where it is null or empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.get(key)? {
            Value::Null => Ok(None),
            Value::String(text) => whole(text).map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())),
            other => Err(unread(other)),
        }
    }

    /// Texts: a list, one of them, or none.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        match self.get(key)? {
            Value::Null => Ok(Vec::new()),
            Value::String(text) if text.is_empty() => Ok(Vec::new()),
            // What lay too deep is its items with blanks between.
            Value::String(text) if text.contains(' ') => Err("it may be a list that was cut off: export with `-Depth 5`".into()),
            Value::String(text) => whole(text).map(|text| vec![text.to_owned()]),
            value => list(value)
                .ok_or_else(|| unread(value))?
                .iter()
                .map(|item| item.as_str().ok_or_else(|| unread(item)).and_then(whole).map(str::to_owned))
                .collect(),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        match self.get(key)? {
            Value::Bool(flag) => Ok(*flag),
            other => Err(unread(other)),
        }
    }

    /// A number, which some write as a text; none where it is null.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, String> {
        match self.get(key)? {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => text.parse().map(Some).map_err(|_| "it is no number".into()),
            other => other.as_i64().map(Some).ok_or_else(|| unread(other)),
        }
    }

    /// A point in time; none where it is null.
    pub(super) fn time(&self, key: &str) -> Result<Option<Timestamp>, String> {
        // Windows PowerShell puts a date into an object with its words beside it.
        let value = match self.get(key)? {
            Value::Object(map) => map.get("value").ok_or("it is no date that is understood")?,
            value => value,
        };
        match value {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => time(text).map(Some).ok_or_else(|| "it is no date that is understood".into()),
            other => Err(unread(other)),
        }
    }

    /// How many items a list has, whatever they are.
    pub(super) fn count(&self, key: &str) -> Result<usize, String> {
        match self.get(key)? {
            Value::Null => Ok(0),
            Value::String(text) if text.is_empty() => Ok(0),
            // One of a list, by itself; several of them have blanks between.
            Value::String(text) if text.contains(' ') || text.ends_with("[]") || text.starts_with("System.") => {
                Err("it may be a list that was cut off: export with `-Depth 5`".into())
            }
            Value::String(_) => Ok(1),
            value => list(value).map(Vec::len).ok_or_else(|| unread(value)),
        }
    }
}

/// A list; `PowerShell` writes some as an object of their items and their number.
pub(super) fn list(value: &Value) -> Option<&Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        Value::Object(map) => {
            let items = map.get("value")?.as_array()?;
            let is_rest =
                |key: &str| matches!(key, "value" | "Count" | "@odata.context" | "adminapi.warnings@odata.type" | "@adminapi.warnings");
            let is_whole = map.get("Count").is_none_or(|count| count.as_u64() == u64::try_from(items.len()).ok());
            (map.keys().all(|key| is_rest(key)) && is_whole).then_some(items)
        }
        _ => None,
    }
}

/// Whether a property says nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() || list(value).is_some_and(Vec::is_empty),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A text, unless it is the name of a type in the place of a value.
fn whole(text: &str) -> Result<&str, String> {
    let is_type = ["System.", "Microsoft.", "@{"].iter().any(|start| text.starts_with(start)) || text.ends_with("[]");
    if is_type { Err("it was cut off: export with `-Depth 5`".into()) } else { Ok(text) }
}

fn unread(value: &Value) -> String {
    let what = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{what} stands where something else was expected")
}

fn time(text: &str) -> Option<Timestamp> {
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        // The offset behind it, if any, is how it is to be shown.
        let end = inner.char_indices().skip(1).find(|(_, letter)| "+-".contains(*letter)).map_or(inner.len(), |(at, _)| at);
        return Timestamp::from_millisecond(inner.get(..end)?.parse().ok()?).ok();
    }
    let is_iso = text.get(4..5) == Some("-") && text.contains('T');
    let zoned = text.parse::<Timestamp>().ok();
    // Without an offset it is local to the machine that wrote it: half a day either way.
    let local = || TimeZone::UTC.to_timestamp(text.parse::<civil::DateTime>().ok()?).ok();
    if is_iso { zoned.or_else(local) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(json: &str, read: impl Fn(&Object<'_>) -> T) -> T {
        let value: Value = serde_json::from_str(json).unwrap();
        read(&Object::new("f", value.as_object().unwrap()))
    }

    #[test]
    fn values_as_powershell_writes_them() {
        for json in [r#"{"A":["x"]}"#, r#"{"a":"x"}"#, r#"{"A":{"value":["x"],"Count":1}}"#] {
            assert_eq!(read(json, |object| object.texts("A")).unwrap(), ["x"]);
        }
        for json in [
            r#"{"A":"x y"}"#,
            r#"{"A":"System.Object[]"}"#,
            r#"{"A":["System.String[]"]}"#,
            r#"{"A":{"value":["x"],"Count":2}}"#,
            r#"{"A":{"value":["x"],"More":2}}"#,
            r#"{"A":1}"#,
            r#"{"A":[1]}"#,
            r#"{"A":"x","a":"y"}"#,
            r#"{"B":"x"}"#,
        ] {
            assert!(read(json, |object| object.texts("A")).is_err(), "{json}");
        }
        let day: Timestamp = "2027-06-30T00:00:00Z".parse().unwrap();
        for date in [
            r#""/Date(1814313600000)/""#,
            r#""/Date(1814313600000+0200)/""#,
            r#""2027-06-30T00:00:00Z""#,
            r#""2027-06-30T02:00:00.0000000+02:00""#,
            r#""2027-06-30T00:00:00""#,
            r#"{"value":"/Date(1814313600000)/","DisplayHint":2,"DateTime":"Wednesday, June 30, 2027"}"#,
        ] {
            assert_eq!(read(&format!("{{\"A\":{date}}}"), |object| object.time("A")), Ok(Some(day)), "{date}");
        }
        for date in [r#""06/30/2027 00:00:00""#, r#""30.06.2027""#, "1", r#""/Date(x)/""#, r#"{"DateTime":"x"}"#] {
            assert!(read(&format!("{{\"A\":{date}}}"), |object| object.time("A")).is_err(), "{date}");
        }
    }
}
