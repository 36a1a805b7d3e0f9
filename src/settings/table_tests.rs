//! Each key of the table against the code that takes it: by the file, by the environment, with its default, with each of its words.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    Problems, Settings,
    keys::{KEYS, Key, Kind, Preset},
    layers::Environment,
    schema::Mistake,
};

/// A folder with what the examples of the table name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("allow.d")).unwrap();
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    for (name, text) in [
        ("tag.token", "test-token-1234\n"),
        ("tag.key", key),
        ("guard.key", key),
        ("audit.key", key),
        ("aliases", ""),
        ("mail.password", "secret\n"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Whole sections, each with what it needs. `[milter]` alone, where its own limit counts.
fn base(key: &Key) -> String {
    let hop = if key.path.starts_with("milter") {
        "[milter]\nlisten = [\"inet:127.0.0.1:8892\"]\nhostname = \"hop.test\"\n"
    } else {
        "[smtp]\nlisten = [\"127.0.0.1:2625\"]\nnext_hop = \"127.0.0.1:2626\"\nhostname = \"hop.test\"\n[smtp.bounds]\n[smtp.deadlines]\n"
    };
    // An upstream's results count only where they are trusted.
    let believed = matches!(key.path, "identity.authserv_ids" | "identity.results");
    let identity =
        if believed { "verify = \"upstream\"\nauthserv_ids = [\"a.test\"]\ntrusted_upstreams = [\"10.1.0.0/16\"]\n" } else { "" };
    let page = "[guard]\nurl = \"https://links.test\"\nlisten = \"127.0.0.1:8444\"\nkey_file = \"guard.key\"\n";
    let digest = "[mail]\nserver = \"127.0.0.1:2627\"\nfrom = \"hop@hop.test\"\nto = [\"it@corp.test\"]\n";
    format!(
        "{hop}[identity]\n{identity}[readers]\n[tag]\ntoken_file = \"tag.token\"\nkey_file = \"tag.key\"\n{page}[admin]\nlisten = \"127.0.0.1:9926\"\n{digest}[audit]\n"
    )
}

/// The same with another value of a key.
fn with(base: &str, key: &Key, value: &str) -> String {
    let line = format!("{} = {value}\n", key.name());
    if key.section().is_empty() {
        return format!("{line}{base}");
    }
    let header = format!("[{}]\n", key.section());
    let (head, rest) = base.split_once(&header).map_or_else(|| (base.to_owned(), String::new()), |(head, rest)| (head.into(), rest.into()));
    let (own, others) = rest.split_once("\n[").map_or_else(
        || (rest.clone(), String::new()),
        |(own, others)| if rest.starts_with('[') { (String::new(), rest.clone()) } else { (format!("{own}\n"), format!("[{others}")) },
    );
    let own: String = own.lines().filter(|line| !line.starts_with(&format!("{} =", key.name()))).map(|line| format!("{line}\n")).collect();
    format!("{head}{header}{line}{own}{others}")
}

/// What a configuration comes to, mistakes included, without their places.
fn outcome(folder: &Path, text: &str, environment: Environment) -> (String, Vec<(String, String)>, Settings) {
    let mut problems = Problems::default();
    let mut settings = Settings::compile(&folder.join("firstclick.toml"), text, environment, &mut problems);
    settings.warnings.clear();
    settings.files = super::Files::default();
    let said = problems.0.into_iter().map(|problem| (problem.key, problem.what)).collect();
    let written = std::mem::take(&mut settings.written);
    let shown = format!("{settings:?}");
    settings.written = written;
    (shown, said, settings)
}

/// A value that is none of the ones in `base`, and not the default.
fn another(key: &Key) -> String {
    match (key.kind, key.preset) {
        (Kind::Number(..), _) => "7".into(),
        (Kind::Size, _) => "\"3MiB\"".into(),
        (Kind::Time(least, _), _) => format!("\"{}s\"", least.as_secs() + 1),
        (Kind::Flag, Preset::Default("true")) => "false".into(),
        (Kind::Flag, _) => "true".into(),
        (_, Preset::Default("\"07:00\"")) => "\"08:30\"".into(),
        (Kind::Word(words), preset) => format!("{:?}", words.iter().find(|word| format!("{word:?}") != preset.text()).unwrap()),
        (_, Preset::Default("\"0660\"")) => "\"0600\"".into(),
        (_, Preset::Default("\"X-Firstclick\"")) => "\"X-Other\"".into(),
        (_, Preset::Default("\"/var/tmp\"") | Preset::Unset("\"/var/lib/firstclick/digest\"")) => "\"allow.d\"".into(),
        (_, Preset::Default(text)) => panic!("{}: which value is another than {text}?", key.path),
        (_, preset) => preset.text().into(),
    }
}

#[test]
fn each_key_can_be_given_by_the_environment() {
    let folder = folder();
    for key in KEYS {
        let (base, value) = (base(key), another(key));
        let by_file = outcome(folder.path(), &with(&base, key, &value), Environment::default());
        // As a shell has it: no quotes and brackets, commas in lists.
        let bare = value.trim_matches(['[', ']']).replace('"', "");
        let by_variable = outcome(folder.path(), &base, Environment::of(&key.variable(), &bare));
        assert_eq!((&by_file.0, &by_file.1), (&by_variable.0, &by_variable.1), "{}", key.path);
        let without = outcome(folder.path(), &base, Environment::default());
        assert_eq!(without.1, [], "{}", key.path);
        // tag.key_file and the like are examples that `base` has.
        let same = matches!(key.kind, Kind::File) && by_file.1.is_empty();
        assert!(same || (&without.0, &without.1) != (&by_variable.0, &by_variable.1), "{} changes nothing", key.path);
        assert!(by_variable.2.written.says_the_same(key, &by_file.2.written), "{}", key.path);
        assert!(same || !by_variable.2.written.says_the_same(key, &without.2.written), "{}", key.path);
    }
}

/// The value that a message says is to be written, as TOML has it.
fn proposed(what: &str, key: &Key) -> Option<String> {
    let (_, value) = what.rsplit_once("write ")?;
    let value = value.strip_suffix(" without quotes").unwrap_or(value);
    Some(value.strip_prefix(&format!("{} = ", key.name())).unwrap_or(value).to_owned())
}

/// Advice works: what a message says is to be written is no mistake of the same kind, whatever was written for a key.
#[test]
fn what_a_message_proposes_is_taken_by_the_keys_reader() {
    let folder = folder();
    let mut advised = 0;
    for key in KEYS {
        let example = key.preset.text().trim_matches(['[', ']', '"']).to_owned();
        let written = [
            "400",
            "1",
            "0",
            "30",
            "5 min",
            "400 days",
            "400s",
            "50MB",
            "0MB",
            "0100",
            "1,000",
            "99999999",
            "yes",
            "True",
            "perhaps",
            "never",
            "[400]",
            "[a, b]",
            "31.01.2027",
            "= 1",
            "= 400",
            "a\\b",
            &example,
            &example.to_uppercase(),
        ];
        for written in written {
            for written in [written.to_owned(), format!("\"{written}\"")] {
                let said = |value: &str| outcome(folder.path(), &with(&base(key), key, value), Environment::default()).1;
                let about = |said: Vec<(String, String)>| {
                    said.into_iter().filter(|(about, _)| about == key.path || about.is_empty()).collect::<Vec<_>>()
                };
                for (_, what) in about(said(&written)) {
                    let Some(value) = proposed(&what, key) else { continue };
                    advised += 1;
                    let still: Vec<_> = about(said(&value))
                        .into_iter()
                        .filter(|(about, again)| about.is_empty() || again.contains(&key.kind.expects()) || *again == what)
                        .collect();
                    assert_eq!(still, [], "{} = {written}: {what}", key.path);
                }
            }
        }
    }
    assert!(advised > 200, "{advised}");
}

/// The files of keys and of tokens are named alike, and lie beside each other.
#[test]
fn a_token_where_a_key_is_wanted_and_no_file_at_all() {
    let folder = folder();
    let drawn = crate::edit::token::Token::drawn(&[7; 32]);
    fs::write(folder.path().join("drawn.token"), format!("{}\n", drawn.expose())).unwrap();
    for key in KEYS.iter().filter(|key| key.path.ends_with("key_file") && key.path != "arc.key_file") {
        let said = |value: &str| -> String {
            let (_, said, _) = outcome(folder.path(), &with(&base(key), key, value), Environment::default());
            said.into_iter().filter(|(about, _)| about == key.path).map(|(_, what)| what).collect()
        };
        for file in ["tag.token", "drawn.token"] {
            let said = said(&format!("{file:?}"));
            assert!(said.contains("this is a token") && !said.contains(drawn.expose()), "{}: {said}", key.path);
        }
        assert!(said("\"absent\"").ends_with("; `firstclick keygen --out FILE` writes one"), "{}: {}", key.path, said("\"absent\""));
    }
}

#[test]
fn a_variable_that_is_written_as_in_the_file_is_told_how_it_is_written() {
    let folder = folder();
    for key in KEYS.iter().filter(|key| key.preset.text().starts_with(['[', '"'])) {
        let written = key.preset.text();
        let (_, said, _) = outcome(folder.path(), &base(key), Environment::of(&key.variable(), written));
        let about: Vec<_> = said.iter().filter(|(about, _)| about == key.path).collect();
        let bare = written.trim_matches(['[', ']']).replace('"', "").replace(", ", ",");
        assert!(about.len() == 1 && about[0].1.ends_with(&format!("write {}={bare}", key.variable())), "{}: {said:?}", key.path);
    }
}

#[test]
fn each_default_is_what_holds_where_the_key_is_left_out() {
    let folder = folder();
    for key in KEYS {
        let Preset::Default(value) = key.preset else { continue };
        let base = base(key);
        let (left_out, written_out) = (
            outcome(folder.path(), &base, Environment::default()),
            outcome(folder.path(), &with(&base, key, value), Environment::default()),
        );
        assert_eq!((left_out.0, left_out.1), (written_out.0, written_out.1), "{}", key.path);
        assert!(left_out.2.written.says_the_same(key, &written_out.2.written), "{}", key.path);
    }
}

#[test]
fn each_word_of_the_table_means_something() {
    let folder = folder();
    for key in KEYS {
        let Kind::Word(words) = key.kind else { continue };
        for word in words {
            let (_, said, _) = outcome(folder.path(), &with(&base(key), key, &format!("{word:?}")), Environment::default());
            assert!(said.iter().all(|(about, what)| about != key.path || !what.contains("not in this version")), "{}: {said:?}", key.path);
        }
    }
}

#[test]
fn another_type_is_one_mistake_with_what_was_expected() {
    let folder = folder();
    for key in KEYS {
        let wrong = if matches!(key.kind, Kind::Flag) { "3" } else { "true" };
        let mut problems = Problems::default();
        let text = with(&base(key), key, wrong);
        Settings::compile(&folder.path().join("firstclick.toml"), &text, Environment::default(), &mut problems);
        let about: Vec<_> = problems.0.iter().filter(|problem| problem.key == key.path && problem.mistake == Mistake::Wrong).collect();
        assert!(about.len() == 1 && about[0].what.contains("expected"), "{}: {problems}", key.path);
        assert!(about[0].place.at.is_some(), "{}: {problems}", key.path);
    }
}

/// A misspelt key is one mistake: that the key itself is missing is not said too.
#[test]
fn a_misspelt_key_is_one_mistake() {
    let folder = folder();
    for key in KEYS {
        let name = key.name();
        let text = with(&base(key), key, key.preset.text());
        let header = if key.section().is_empty() { String::new() } else { format!("[{}]\n", key.section()) };
        let text = text.replacen(&format!("{header}{name} = "), &format!("{header}{name}x = "), 1);
        let mut problems = Problems::default();
        Settings::compile(&folder.path().join("firstclick.toml"), &text, Environment::default(), &mut problems);
        let unknown: Vec<_> = problems.0.iter().filter(|problem| matches!(problem.mistake, Mistake::Unknown(_))).collect();
        assert!(unknown.len() == 1 && unknown[0].what.contains(&format!("did you mean `{name}`?")), "{}: {problems}", key.path);
        assert!(
            !problems.0.iter().any(|problem| problem.mistake == Mistake::Missing && problem.key == key.path),
            "{}: {problems}",
            key.path
        );
    }
}

/// A configuration of an earlier version starts, and `check` says which of its keys set nothing any more.
#[test]
fn a_key_that_sets_nothing_any_more_is_a_warning() {
    let folder = folder();
    let smtp = "[smtp]\nlisten = [\"127.0.0.1:0\"]\nnext_hop = \"127.0.0.1:1\"\nhostname = \"hop.test\"\n";
    for (text, environment, place) in [
        (format!("{smtp}temporary_directory = \"/nowhere\"\n"), Environment::default(), "firstclick.toml:5:23"),
        (smtp.to_owned(), Environment::of("FIRSTCLICK_SMTP__TEMPORARY_DIRECTORY", "/nowhere"), "FIRSTCLICK_SMTP__TEMPORARY_DIRECTORY"),
    ] {
        let mut problems = Problems::default();
        let settings = Settings::compile(&folder.path().join("firstclick.toml"), &text, environment, &mut problems);
        assert!(problems.0.is_empty() && settings.smtp.is_some(), "{problems}");
        let said: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains(place) && said[0].contains("smtp.temporary_directory: large mails"), "{said:?}");
    }
}

#[test]
fn what_is_missing_is_said_at_its_section() {
    let folder = folder();
    let text = "[smtp]\nlisten = [\"127.0.0.1:0\"]\nnext_hop = \"127.0.0.1:1\"\n\n[guard]\nurl = \"https://links.test\"\nlisten = \"127.0.0.1:0\"\n";
    let mut problems = Problems::default();
    Settings::compile(&folder.path().join("firstclick.toml"), text, Environment::default(), &mut problems);
    let said = problems.to_string();
    for words in ["firstclick.toml:1:1: smtp.hostname: missing", "firstclick.toml:5:1: guard.key_file: missing", "2 mistakes"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_section_that_is_none_and_a_name_that_is_unknown() {
    let folder = folder();
    for (text, environment, words) in [
        ("smtp = 3", Environment::default(), "1:8: smtp: found the number 3, expected a table: [smtp]"),
        ("[gaurd]\nurl = \"x\"", Environment::default(), "did you mean `guard`?"),
        ("[smtp.bound]", Environment::default(), "did you mean `bounds`?"),
        ("", Environment::of("FIRSTCLICK_SMTP__BOUND__MEMORY", "1MiB"), "did you mean FIRSTCLICK_SMTP__BOUNDS?"),
        (
            "",
            Environment::of("FIRSTCLICK_SMTP__LISTEN", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]"),
            "commas between the values, no brackets and no quotes: write FIRSTCLICK_SMTP__LISTEN=127.0.0.1:1,127.0.0.1:2",
        ),
        ("", Environment::of("FIRSTCLICK_GUARD__PROXIE", "x"), "did you mean FIRSTCLICK_GUARD__PROXIES?"),
        ("", Environment::of("FIRSTCLICK_SMTP__BOUNDS__CONNECTIONS", "many"), "found \"many\", expected a number from 1 to 1000000"),
        ("", Environment::of("FIRSTCLICK_SMTP__TRACE", "perhaps"), "found \"perhaps\", expected true or false"),
    ] {
        let mut problems = Problems::default();
        Settings::compile(&folder.path().join("firstclick.toml"), text, environment, &mut problems);
        assert!(problems.to_string().contains(words), "{words}: {problems}");
    }
    // Somebody else's variable.
    let mut problems = Problems::default();
    Settings::compile(&folder.path().join("firstclick.toml"), "", Environment::of("FIRSTCLICK_FAULT", "x"), &mut problems);
    assert_eq!(problems, Problems::default());
}

/// A setting that a file names is watched, so that a change of the file takes effect.
#[test]
fn each_file_that_is_named_is_watched_also_where_it_is_not_there() {
    let folder = folder();
    for key in KEYS.iter().filter(|key| key.kind == Kind::File) {
        let mut problems = Problems::default();
        let text = with(&base(key), key, "\"some/where\"");
        let settings = Settings::compile(&folder.path().join("firstclick.toml"), &text, Environment::default(), &mut problems);
        assert!(settings.files.paths().any(|path| path == folder.path().join("some/where")), "{}", key.path);
    }
    // Entries and the mails of their tests.
    fs::write(
        folder.path().join("allow.d/one.toml"),
        "from = [\"vendor.test\"]\naction = \"tag\"\n[links]\npassword_reset = [\"login.vendor.test/reset/{token}\"]\n[[test]]\nmail = \"one.eml\"\nexpect = \"tag\"\n",
    )
    .unwrap();
    let text = with(&base(&KEYS[0]), &KEYS[1], "\"allow.d\"");
    let mut problems = Problems::default();
    let settings = Settings::compile(&folder.path().join("firstclick.toml"), &text, Environment::default(), &mut problems);
    for name in ["allow.d/one.toml", "allow.d/one.eml"] {
        assert!(settings.files.paths().any(|path| path == folder.path().join(name)), "{name}: {problems}");
    }
}

#[test]
fn keys_that_need_a_restart_are_compared_by_what_they_mean() {
    let folder = folder();
    let read = |text: &str| outcome(folder.path(), text, Environment::default()).2.written;
    let base = base(&KEYS[0]);
    let before = read(&base);
    let memory = |size: &str| read(&base.replace("[smtp.bounds]\n", &format!("[smtp.bounds]\nmemory = \"{size}\"\n")));
    let named = |now: &super::WrittenKeys| before.needing_restart(now).map(|key| key.path).collect::<Vec<_>>();
    assert_eq!(named(&memory("131072KiB")), [""; 0], "the default in another unit");
    assert_eq!(named(&memory("64MiB")), ["smtp.bounds.memory"]);
    assert_eq!(named(&read(&base.replace("127.0.0.1:8444", "127.0.0.1:8445").replace("hop.test", "other.test"))), ["guard.listen"]);
    assert_eq!(named(&read(&base.replace("[admin]\nlisten = \"127.0.0.1:9926\"\n", ""))), ["admin.listen"]);
}
