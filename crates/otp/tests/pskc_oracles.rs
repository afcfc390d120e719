//! RFC 6030 as two other implementations read and write it: `pskctool` of the OATH Toolkit, and `csv2pskc` and `pskc2csv` of python-pskc
//! (tests/lab/install.sh test).

use domain::Secret;
use otp::import::{Kind, Opening, Preset, Token, read_tokens};
use std::path::{Path, PathBuf};
use std::process::Command;

const NOW_MS: i64 = 1_795_824_000_000;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run tests/lab/install.sh test"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn tokens(file: &Path, opening: Opening<'_>) -> Vec<Token> {
    let file = Secret::new(std::fs::read(file).expect("the file"));
    let rows = read_tokens(Preset::Pskc, &file, opening, NOW_MS).expect("a good file");
    rows.into_iter().map(|row| row.content.expect("a good row")).collect()
}

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/pskc").join(name)
}

/// Three tokens, as the lines of the CSV that the writer reads; `columns` names what is in it.
fn csv(folder: &Path) -> PathBuf {
    let file = folder.join("tokens.csv");
    let lines = "serial,secret,counter,response_length,manufacturer\n\
                 O-1,3132333435363738393031323334353637383930,5,6,Acme\n\
                 O-2,000102030405060708090a0b0c0d0e0f10111213,0,8,Acme & Sons\n\
                 O-3,ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff,18446744073709551615,6,\u{c4}cme\n";
    std::fs::write(&file, lines).expect("written");
    file
}

fn assert_same(read: &[Token]) {
    let seen: Vec<(String, String, u64, u8, &str)> = read
        .iter()
        .map(|token| {
            let seed = data_encoding::HEXLOWER.encode(token.seed.expose());
            (token.serial.clone(), seed, token.counter, token.digits, token.manufacturer.as_str())
        })
        .collect();
    let expected = [
        ("O-1", "3132333435363738393031323334353637383930".to_owned(), 5, 6, "Acme"),
        ("O-2", "000102030405060708090a0b0c0d0e0f10111213".into(), 0, 8, "Acme & Sons"),
        ("O-3", "ff".repeat(32), u64::MAX, 6, "\u{c4}cme"),
    ]
    .map(|(serial, seed, counter, digits, maker)| (serial.to_owned(), seed, counter, digits, maker));
    assert_eq!(seen, expected);
    assert!(read.iter().all(|token| token.kind == Kind::Hotp));
}

#[test]
fn what_another_implementation_writes_in_clear_with_a_key_and_with_a_password_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = csv(folder.path());
    let write = |name: &str, protection: &[&str]| {
        let file = folder.path().join(name);
        let algorithm = "algorithm=urn:ietf:params:xml:ns:keyprov:pskc:hotp";
        let (csv, out) = (csv.to_string_lossy(), file.to_string_lossy());
        let fixed = ["-e", "hex", "-x", algorithm, "-x", "response_encoding=DECIMAL", "-o", &out];
        run("csv2pskc", &[&fixed[..], protection, &[&csv]].concat());
        file
    };
    assert_same(&tokens(&write("clear.xml", &[]), Opening::Nothing));
    let key = Secret::new((0..16).collect::<Vec<u8>>());
    let keyed = write("key.xml", &["-s", "000102030405060708090a0b0c0d0e0f"]);
    assert_same(&tokens(&keyed, Opening::Key(&key)));
    let password = Secret::from("Tr0ub4dor & 3");
    let protected = write("password.xml", &["-p", "Tr0ub4dor & 3"]);
    assert_same(&tokens(&protected, Opening::Password(&password)));
    assert!(!std::fs::read_to_string(&protected).expect("text").contains("MTIzNDU2"), "it is encrypted at all");
}

#[test]
fn what_we_read_of_the_rfcs_examples_is_what_others_read_of_them() {
    let encrypted = tokens(&vector("figure7.xml"), Opening::Password(&"qwerty".into()));
    let theirs = run(
        "pskc2csv",
        &["-p", "qwerty", "-e", "hex", "-c", "serial,secret", &vector("figure7.xml").to_string_lossy()],
    );
    let seed = data_encoding::HEXLOWER.encode(encrypted[0].seed.expose());
    assert_eq!(theirs.lines().nth(1), Some(format!("{},{seed}", encrypted[0].serial).as_str()));

    let plain = tokens(&vector("figure3.xml"), Opening::Nothing);
    let theirs = run("pskctool", &["--info", &vector("figure3.xml").to_string_lossy()]);
    let field = |name: &str| {
        let line = theirs.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name} in {theirs}")).to_owned()
    };
    assert_eq!(field("SerialNo"), plain[0].serial);
    assert_eq!(field("Manufacturer"), plain[0].manufacturer);
    assert_eq!(field("Key Secret (base64)"), data_encoding::BASE64.encode(plain[0].seed.expose()));
    assert_eq!(field("Key Counter"), plain[0].counter.to_string());
    assert_eq!(field("Response Format Length"), plain[0].digits.to_string());
    assert_eq!(field("Key User Id"), plain[0].username);
}
