//! Files of other systems: the examples of RFC 6030, what each preset reads and refuses, and what nothing may break.

use domain::{CodeAlgorithm, Secret};
use otp::import::{
    Field, FileError, Kind, Mapping, OldDisabled, Opening, Preset, ROWS_MAX, Row, RowError, Token, User, read_tokens,
    read_users, recognise,
};
use proptest::prelude::*;

/// 20 May 2006, when the keys of figure 10 were good, and 28 November 2026.
const MAY_2006_MS: i64 = 1_148_083_200_000;
const NOW_MS: i64 = 1_795_824_000_000;

fn figure(name: &str) -> Secret {
    let path = format!("{}/../../tests/vectors/pskc/{name}.xml", env!("CARGO_MANIFEST_DIR"));
    Secret::new(std::fs::read(path).expect("the vector is there"))
}

fn read(preset: Preset, text: &str) -> Vec<Row<Token>> {
    read_tokens(preset, &Secret::from(text), Opening::Nothing, NOW_MS).expect("a good file")
}

fn pskc(file: &Secret, opening: Opening<'_>) -> Result<Vec<Row<Token>>, FileError> {
    read_tokens(Preset::Pskc, file, opening, NOW_MS)
}

fn only(rows: Vec<Row<Token>>) -> Token {
    let [row] = <[Row<Token>; 1]>::try_from(rows).expect("one row");
    row.content.expect("a good row")
}

fn good(rows: Vec<Row<Token>>) -> Vec<Token> {
    rows.into_iter().map(|row| row.content.expect("a good row")).collect()
}

/// Row and what is wrong with it.
fn bad<T>(rows: &[Row<T>]) -> Vec<(u32, RowError)> {
    rows.iter().filter_map(|row| Some((row.row, *row.content.as_ref().err()?))).collect()
}

/// The seed of the RFC's examples.
const SEED: &[u8] = b"12345678901234567890";

#[test]
fn the_examples_of_rfc_6030_in_clear_are_read_as_they_say() {
    // Figure 3: a HOTP token of eight digits, and whose it is.
    let token = only(pskc(&figure("figure3"), Opening::Nothing).expect("read"));
    assert_eq!(token.seed.expose(), SEED);
    assert_eq!((token.serial.as_str(), token.kind, token.digits), ("987654321", Kind::Hotp, 8));
    assert_eq!((token.counter, token.period_seconds, token.algorithm), (0, 0, CodeAlgorithm::Sha1));
    assert_eq!(
        (token.manufacturer.as_str(), token.username.as_str()),
        ("Manufacturer", "UID=jsmith,DC=example-bank,DC=net")
    );
    // Figure 5: the PIN that the token itself asks for is no token.
    assert_eq!(only(pskc(&figure("figure5"), Opening::Nothing).expect("read")).serial, "987654321");
    // Figure 2: the RFC's smallest example has four octets of seed, which would be guessed.
    let rows = pskc(&figure("figure2"), Opening::Nothing).expect("read");
    assert_eq!((rows[0].name.as_str(), bad(&rows)), ("12345678", vec![(1, RowError::SeedLength { found: 4 })]));
}

#[test]
fn keys_are_used_only_within_the_dates_of_their_policy_and_a_serial_is_read_once() {
    // Figure 10: two keys for May, one for March, one for April, the last two with one serial.
    let at = |now_ms| read_tokens(Preset::Pskc, &figure("figure10"), Opening::Nothing, now_ms).expect("read");
    assert_eq!(bad(&at(MAY_2006_MS)), [(3, RowError::Expired), (4, RowError::Expired)]);
    assert_eq!(bad(&at(MAY_2006_MS - 90 * 86_400_000)).len(), 4, "in February none may be used");
    assert_eq!(bad(&at(NOW_MS)).len(), 4);
    let file = String::from_utf8(figure("figure10").expose().to_vec()).expect("text").replace("2006-0", "9006-0");
    let file = file.replace("StartDate", "ExpiryDate");
    assert_eq!(bad(&read(Preset::Pskc, &file)), [(4, RowError::Duplicate { row: 3 })]);
}

#[test]
fn the_example_with_a_pre_shared_key_opens_with_that_key_alone() {
    // RFC 6030 figure 6: AES-128-CBC, HMAC-SHA1 with an encrypted key of its own.
    let key = Secret::new(hex("12345678901234567890123456789012"));
    let token = only(pskc(&figure("figure6"), Opening::Key(&key)).expect("read"));
    assert_eq!((token.seed.expose(), token.serial.as_str(), token.digits), (SEED, "987654321", 8));
    let refused = |opening| pskc(&figure("figure6"), opening).expect_err("refused");
    assert_eq!(refused(Opening::Nothing), FileError::KeyNeeded);
    assert_eq!(refused(Opening::Password(&key)), FileError::KeyNeeded);
    let (wrong, short) = (Secret::new([7; 16]), Secret::new([7; 15]));
    assert_eq!(refused(Opening::Key(&wrong)), FileError::WrongKey);
    assert_eq!(refused(Opening::Key(&short)), FileError::KeyLength);
}

#[test]
fn the_example_with_a_password_opens_with_that_password_alone() {
    // RFC 6030 figure 7: PBKDF2 with HMAC-SHA1, 1000 rounds; the password is qwerty, the seed 20 octets.
    let token = only(pskc(&figure("figure7"), Opening::Password(&"qwerty".into())).expect("read"));
    assert_eq!((token.seed.expose(), token.counter), (SEED, 0));
    let refused = |opening| pskc(&figure("figure7"), opening).expect_err("refused");
    let (wrong, key) = (Secret::from("azerty"), Secret::new([7; 16]));
    assert_eq!(refused(Opening::Password(&wrong)), FileError::WrongKey);
    assert_eq!(refused(Opening::Nothing), FileError::PasswordNeeded);
    assert_eq!(refused(Opening::Key(&key)), FileError::PasswordNeeded);
    // Figure 8 is for the owner of a certificate.
    assert!(matches!(pskc(&figure("figure8"), Opening::Nothing), Err(FileError::Encryption(_))));
}

#[test]
fn larger_keys_newer_hashes_and_the_suite_are_understood() {
    // Written by another implementation: AES-256, PBKDF2 and MAC with SHA-256.
    let tokens = good(pskc(&figure("aes256_sha256"), Opening::Password(&"open sesame".into())).expect("read"));
    let [timed, counted] = <[Token; 2]>::try_from(tokens).expect("two");
    assert_eq!(timed.seed.expose(), (0..32).collect::<Vec<u8>>());
    assert_eq!((timed.kind, timed.algorithm, timed.digits), (Kind::Totp, CodeAlgorithm::Sha256, 8));
    assert_eq!((timed.period_seconds, timed.username.as_str()), (60, "ann"));
    assert_eq!((counted.kind, counted.counter, counted.algorithm), (Kind::Hotp, 77, CodeAlgorithm::Sha1));
}

#[test]
fn a_changed_value_is_refused_and_so_is_one_that_nothing_proves() {
    let key = Secret::new(hex("12345678901234567890123456789012"));
    let with = |from: &str, to: &str| {
        let text = String::from_utf8(figure("figure6").expose().to_vec()).expect("text");
        assert!(text.contains(from));
        let rows = pskc(&Secret::from(text.replace(from, to)), Opening::Key(&key)).expect("read");
        bad(&rows)
    };
    // The last block of the seed, one bit of it: without the MAC it would open to another seed.
    assert_eq!(with("UqGv", "UqGu"), [(1, RowError::WrongMac)]);
    assert_eq!(with("Su+NvtQf", "Tu+NvtQf"), [(1, RowError::WrongMac)]);
    assert_eq!(with("ValueMAC", "ValueMark"), [(1, RowError::NoMac)]);
    assert_eq!(with("MACMethod", "MarkMethod"), [(1, RowError::NoMac)]);
    // The encryption key in the MAC's place is of before the RFC, and proves nothing here: the MAC was made with the other one.
    assert_eq!(with("MACKey", "MarkKey"), [(1, RowError::WrongMac)]);
}

#[test]
fn a_policy_that_cannot_be_kept_forbids_the_key() {
    // RFC 6030 section 5.
    let with = |policy: &str| {
        let file = format!(
            "<KeyContainer Version=\"1.0\"><KeyPackage><Key Id=\"a\" Algorithm=\"totp\"><Data><Secret><PlainValue>\
             MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret></Data><Policy>{policy}</Policy></Key></KeyPackage></KeyContainer>"
        );
        bad(&read(Preset::Pskc, &file)).pop().map(|(_, error)| error)
    };
    assert_eq!(with(""), None);
    assert_eq!(with("<KeyUsage>OTP</KeyUsage><StartDate>2020-01-01T00:00:00</StartDate>"), None);
    assert_eq!(with("<KeyUsage>Sign</KeyUsage><KeyUsage>OTP</KeyUsage>"), None);
    for policy in [
        "<KeyUsage>CR</KeyUsage>",
        "<NumberOfTransactions>5</NumberOfTransactions>",
        "<PINPolicy PINUsageMode=\"Append\"/>",
        "<ExpiryDate>soon</ExpiryDate>",
        "<Moon/>",
    ] {
        assert!(matches!(with(policy), Some(RowError::Policy(_))), "{policy}");
    }
    assert_eq!(with("<StartDate>2030-01-01T00:00:00Z</StartDate>"), Some(RowError::NotYet));
}

#[test]
fn xml_that_could_hurt_or_is_something_else_is_refused() {
    let refused = |text: &str| pskc(&Secret::from(text), Opening::Nothing).expect_err("refused");
    let bomb = "<!DOCTYPE a [<!ENTITY b \"cccccccc\"><!ENTITY d \"&b;&b;&b;\">]><KeyContainer Version=\"1.0\">&d;</KeyContainer>";
    assert!(matches!(refused(bomb), FileError::Xml { .. }));
    let outside = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><KeyContainer Version=\"1.0\"/>";
    assert!(matches!(refused(outside), FileError::Xml { .. }));
    assert_eq!(refused("<other/>"), FileError::NotPskc);
    assert_eq!(refused("<KeyContainer Version=\"2.0\"/>"), FileError::NotPskc);
    assert_eq!(refused("<KeyContainer Version=\"1.0\"/>"), FileError::Empty);
    assert!(matches!(refused("serial,seed"), FileError::Xml { line: 1, .. }));
    assert_eq!(pskc(&Secret::new([0xff, 0xfe]), Opening::Nothing).expect_err("refused"), FileError::NotText);
    let slow = String::from_utf8(figure("figure7").expose().to_vec()).expect("text");
    let slow = slow.replace("<IterationCount>1000<", "<IterationCount>4000000000<");
    assert!(matches!(pskc(&Secret::from(slow), Opening::Password(&"qwerty".into())), Err(FileError::Encryption(_))));
}

#[test]
fn the_csv_of_the_cloud_directory_is_read_whatever_its_case_order_and_spaces() {
    let rows = read(
        Preset::EntraOath,
        "\u{feff}UPN, Serial Number ,Secret Key,timeinterval,Manufacturer,Model\r\n\
         ann@example.com,1234567,2234567abcdef2234567abcdef,60,Contoso,HardwareKey\r\n\
         ben@example.com,1234568,2234 567A-BCDE F223====,30,,\r\n",
    );
    let [ann, ben] = <[Token; 2]>::try_from(good(rows)).expect("two");
    assert_eq!((ann.username.as_str(), ann.serial.as_str(), ann.period_seconds), ("ann@example.com", "1234567", 60));
    assert_eq!((ann.kind, ann.algorithm, ann.digits, ann.seed.len()), (Kind::Totp, CodeAlgorithm::Sha1, 6, 16));
    assert_eq!((ann.manufacturer.as_str(), ann.model.as_str()), ("Contoso", "HardwareKey"));
    assert_eq!(ben.seed.expose(), hex("d6b7cefbe0088642eb5b"));
    let header =
        |text: &str| read_tokens(Preset::EntraOath, &text.into(), Opening::Nothing, NOW_MS).expect_err("refused");
    assert_eq!(
        header("ann,1,AAAA,30\n"),
        FileError::Header {
            missing: ["upn", "serial number", "secret key", "time interval"].map(String::from).to_vec()
        }
    );
    assert_eq!(header("upn,serial number,secret key,time interval,manufacturer,model\n"), FileError::Empty);
    assert_eq!(header(""), FileError::Empty);
}

#[test]
fn a_bad_row_is_told_and_stops_no_other_and_no_message_repeats_a_secret() {
    let canary = "CANARYCANARYCANARYCANARY0";
    let file = format!(
        "upn,serial number,secret key,time interval,manufacturer,model\n\
         a,1,{canary},30,,\nb,2,JBSWY3DPEHPK3PXP,30,,\nc,,JBSWY3DPEHPK3PXP,30,,\nd,4,JBSWY3DPEHPK3PXP,45,,\n\
         e,5,JBSWY3DPEHPK3PXP,{canary},,\nf,6,JBSWY3DP,30,,\ng,2,JBSWY3DPEHPK3PXP,30,,\nh,8,,30,,\ni,9\n\"j\nj\",10,JBSWY3DPEHPK3PXP,30,,\n"
    );
    let rows = read(Preset::EntraOath, &file);
    let told: Vec<String> = rows.iter().filter_map(|row| Some(row.content.as_ref().err()?.to_string())).collect();
    assert_eq!(
        told,
        [
            "the secret is not Base32",
            "the serial number is missing",
            "found a period of 45 seconds; allowed are 30 and 60",
            "the time interval is not a number that is allowed here",
            "the secret has 5 octets; allowed are 10 to 80",
            "row 3 has the same name",
            "the secret is missing",
            "the secret is missing",
            "the user name holds a control character, or is too long",
        ]
    );
    assert_eq!(rows.iter().filter(|row| row.content.is_ok()).count(), 1);
    assert!(!format!("{rows:?}").contains("CANARY") && !format!("{rows:?}").contains("JBSWY"));
}

#[test]
fn the_csv_of_privacyidea_is_read_with_and_without_users() {
    let seed = "3132333435363738393031323334353637383930";
    let file = format!(
        "# a comment, with a comma\nA1,{seed},HOTP,6,12\nA2, {seed} ,totp,8,60\nA3,{seed}\nA4,{seed},motp,6,0\n"
    );
    let rows = read(Preset::PiOath, &file);
    assert_eq!(bad(&rows), [(5, RowError::Kind)]);
    let tokens: Vec<Token> = rows.into_iter().filter_map(|row| row.content.ok()).collect();
    assert_eq!((tokens[0].kind, tokens[0].digits, tokens[0].counter), (Kind::Hotp, 6, 12));
    assert_eq!((tokens[1].kind, tokens[1].digits, tokens[1].period_seconds), (Kind::Totp, 8, 60));
    assert_eq!((tokens[2].kind, tokens[2].digits, tokens[2].seed.expose()), (Kind::Hotp, 6, SEED));

    let rows = read(Preset::PiOath, &format!("# version: 2\nann,corp,realm,A1,{seed},totp,6,30\nben,corp,realm\n"));
    assert_eq!(bad(&rows), [(3, RowError::Columns { found: 3, expected: 5 })]);
    assert_eq!(rows[0].content.as_ref().expect("good").username, "ann");

    // A seed of 32 octets is no sign of SHA-256.
    let long = "ab".repeat(32);
    let token =
        only(read(Preset::PiExport, &format!("owner,serial,otpkey,type,otplen\nann@corp,T1,{long},totp,8,60\n")));
    assert_eq!((token.username.as_str(), token.algorithm, token.period_seconds), ("ann@corp", CodeAlgorithm::Sha1, 60));
    assert_eq!(only(read(Preset::PiExport, &format!("ann,T1,{long},hotp,6\n"))).username, "ann");
}

#[test]
fn the_csv_of_linotp_names_its_hash() {
    let seed = "ab".repeat(20);
    let rows = read(
        Preset::LinOtp,
        &format!(
            "serial,key,type,digits,step,hash\nL1,{seed},totp,8,60,sha256\nL2,{seed},hmac,6,,\nL3,{seed},totp,6,30,md5\nL4\n"
        ),
    );
    assert_eq!(bad(&rows), [(4, RowError::Hash), (5, RowError::Columns { found: 1, expected: 2 })]);
    let first = rows[0].content.as_ref().expect("good");
    assert_eq!((first.algorithm, first.digits, first.period_seconds), (CodeAlgorithm::Sha256, 8, 60));
    assert_eq!(rows[1].content.as_ref().expect("good").kind, Kind::Hotp);
}

/// A field of a Protocol Buffers message.
fn octets(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(value.len()).expect("short")], value].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn export(accounts: &[Vec<u8>], of: u8, part: u8) -> String {
    let accounts: Vec<u8> = accounts.iter().flat_map(|account| octets(1, account)).collect();
    let message = [accounts, number(2, 1), number(3, of), number(4, part), vec![5 << 3, 0xff, 0xff, 0x03]].concat();
    let data = data_encoding::BASE64.encode(&message).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("otpauth-migration://offline?data={data}\n")
}

#[test]
fn the_export_of_an_authenticator_app_is_read_in_all_its_parts() {
    let ann =
        [octets(1, SEED), octets(2, b"Example:ann"), octets(3, b"Example"), number(4, 1), number(5, 1), number(6, 2)];
    let ben = [octets(1, &[9; 32]), octets(2, b"ben"), number(4, 2), number(5, 2), number(6, 1), number(7, 42)];
    let (ann, ben) = (ann.concat(), ben.concat());
    let md5 = [octets(1, SEED), number(4, 4)].concat();
    let rows = read(Preset::GoogleExport, &(export(std::slice::from_ref(&ann), 2, 0) + &export(&[ben, md5], 2, 1)));
    assert_eq!(bad(&rows), [(3, RowError::Hash)]);
    let ann_token = rows[0].content.as_ref().expect("good");
    assert_eq!((ann_token.username.as_str(), ann_token.kind, ann_token.digits), ("ann", Kind::Totp, 6));
    assert_eq!(ann_token.seed.expose(), SEED);
    let ben_token = rows[1].content.as_ref().expect("good");
    assert_eq!((ben_token.counter, ben_token.digits, ben_token.algorithm), (42, 8, CodeAlgorithm::Sha256));
    // The same account has the same serial in every export, and two have two.
    assert_eq!(only(read(Preset::GoogleExport, &export(std::slice::from_ref(&ann), 1, 0))).serial, ann_token.serial);
    assert_ne!(ann_token.serial, ben_token.serial);

    let refused =
        |text: &str| read_tokens(Preset::GoogleExport, &text.into(), Opening::Nothing, NOW_MS).expect_err("refused");
    assert_eq!(refused(&export(std::slice::from_ref(&ann), 2, 1)), FileError::PartMissing { part: 1, of: 2 });
    assert_eq!(refused("otpauth://totp/a?secret=JBSWY3DPEHPK3PXP\n"), FileError::NotMigration { line: 1 });
    for broken in ["%zz", "!", "Cg%", "CgUKAzEyMw%3D%3D%3D%3D8"] {
        assert_eq!(
            refused(&format!("otpauth-migration://offline?data={broken}")),
            FileError::NotMigration { line: 1 },
            "{broken}"
        );
    }
}

#[test]
fn a_file_has_at_most_fifty_thousand_rows() {
    // FI-01
    let seed = "ab".repeat(20);
    let file: String = (0..=ROWS_MAX).map(|row| format!("S{row},{seed}\n")).collect();
    assert_eq!(
        read_tokens(Preset::PiOath, &file.clone().into(), Opening::Nothing, NOW_MS).expect_err("refused"),
        FileError::TooManyRows
    );
    let fewer = &file[..file.trim_end().rfind('\n').expect("lines")];
    assert_eq!(read(Preset::PiOath, fewer).len(), ROWS_MAX);
}

fn users(text: &str, mapping: &[(&str, Field)], old_disabled: OldDisabled) -> Vec<Row<User>> {
    let mut map = Mapping::default();
    for (column, field) in mapping {
        map.map(column, *field);
    }
    read_users(&Secret::from(text), &map, old_disabled).expect("a good file").rows
}

fn fields(row: &Row<User>) -> Vec<(&'static str, &str)> {
    let user = row.content.as_ref().expect("a good row");
    user.fields.iter().map(|(field, value)| (*field, value.as_str())).collect()
}

#[test]
fn columns_of_users_are_mapped_by_name_or_by_what_they_are_usually_called() {
    // FI-02
    let text = "Account;Phone Number;Zweitnummer;E-Mail;Colour\nann;+49 (30) 90-1820 x890;030/123456 ext. 7;ann@example.com;red\nben;;;;\n";
    let mapping = [("account", Field::Username), ("Zweitnummer", Field::BackupPhone)];
    let rows = users(text, &mapping, OldDisabled::default());
    assert_eq!(
        fields(&rows[0]),
        [
            ("backup_extension", "7"),
            ("backup_phone", "030123456"),
            ("mail", "ann@example.com"),
            ("phone", "+4930901820"),
            ("phone_extension", "890"),
        ]
    );
    assert_eq!(fields(&rows[1]), [], "an empty cell changes nothing");
    let mut map = Mapping::default();
    map.map("account", Field::Username);
    let read = read_users(&Secret::from(text), &map, OldDisabled::default()).expect("read");
    assert_eq!(read.unused, ["Zweitnummer", "Colour"]);
    map.map("shoe size", Field::Mail);
    let refused =
        |text: &str, map: &Mapping| read_users(&text.into(), map, OldDisabled::default()).expect_err("refused");
    assert_eq!(refused(text, &map), FileError::Header { missing: vec!["shoe size".into()] });
    assert_eq!(
        refused("name,phone\na,b\n", &Mapping::default()),
        FileError::Header { missing: vec!["username".into()] }
    );
}

#[test]
fn words_of_the_old_product_become_ours() {
    // FI-02, FI-03
    let text = "username,mode,enabled,language\n\
        a,Phone Call (PIN),1,en\nb,Two-Way Text Message,true,de_CH\nc,OATH Token,No,\nd,Mobile App,,\ne,sms,exempt,\nf,Telepathy,1,\ng,call,maybe,\nh,call,1,klingon!\n";
    let rows = users(text, &[], OldDisabled::Disabled);
    assert_eq!(fields(&rows[0])[0], ("default_method", "call"));
    assert!(fields(&rows[0]).contains(&("pin_required", "true")) && fields(&rows[0]).contains(&("language_app", "en")));
    assert_eq!(&fields(&rows[1])[..2], [("default_method", "sms"), ("language_app", "de-CH")]);
    assert_eq!(fields(&rows[2]), [("default_method", "code"), ("state", "disabled")]);
    assert_eq!(fields(&rows[3]), [("default_method", "push")]);
    assert_eq!(fields(&rows[4]), [("default_method", "sms"), ("state", "exempt")]);
    assert_eq!(
        bad(&rows),
        [(7, RowError::Value("default_method")), (8, RowError::Value("state")), (9, RowError::Value("language")),]
    );
    assert_eq!(
        bad(&users("user,methods\na,code;push\nb,\", \"\nc,code pigeon\n", &[], OldDisabled::Disabled)),
        [(3, RowError::Value("allowed_methods")), (4, RowError::Value("allowed_methods"))]
    );
    // Where "disabled" meant "is not asked", the import is told so.
    assert_eq!(fields(&users(text, &[], OldDisabled::Exempt)[2])[1], ("state", "exempt"));
}

#[test]
fn the_users_of_duo_bring_their_phones_and_the_serials_of_their_tokens() {
    let text = "username,realname,alias1,email,status,phone1,platform1,phone2,platform2,group1,notes,token1,type1,token2,type2,tokens\n\
        jason,Jason Liu,jliu,jason@example.com,active,734-555-1234,iphone,+1 734 555 3232 x9,landline,Staff,,,,,,\n\
        sally,,,,disabled,(734)-555-1235,android,,,Staff,\"after, Dec 4\",101222,h6,101223,t6,no\n\
        jack,,,,bypass,,,,,,,101224,h6,,,\n\
        bob,,,,locked,,,,,,,101225,h6,,,\n";
    let read = read_users(&Secret::from(text), &Mapping::default(), OldDisabled::default()).expect("a good file");
    assert_eq!(
        fields(&read.rows[0]),
        [
            ("backup_extension", "9"),
            ("backup_phone", "+17345553232"),
            ("mail", "jason@example.com"),
            ("phone", "7345551234"),
            ("state", "enabled"),
        ]
    );
    assert_eq!(fields(&read.rows[1]), [("phone", "7345551235"), ("state", "disabled")]);
    assert_eq!(fields(&read.rows[2]), [("state", "exempt")]);
    assert_eq!(bad(&read.rows), [(5, RowError::Value("state"))]);
    let holders: Vec<_> = read.holders.iter().map(|it| (it.row, it.username.as_str(), it.serial.as_str())).collect();
    assert_eq!(holders, [(3, "sally", "101222"), (3, "sally", "101223"), (4, "jack", "101224")], "none of a bad row");
    let unused = "realname alias1 platform1 platform2 group1 notes type1 type2 tokens";
    assert_eq!(read.unused.join(" "), unused);
}

#[test]
fn a_file_of_tokens_is_recognised_by_what_it_begins_with() {
    let seed = "3132333435363738393031323334353637383930";
    for (text, preset) in [
        (
            "upn,Serial Number,secretkey,timeinterval,manufacturer,model\nann,1,AAAA,30,HW,1\n".to_owned(),
            Some(Preset::EntraOath),
        ),
        (format!("owner,serial,otpkey,type,otplen,timeStep\nann,1,{seed},totp,6,30\n"), Some(Preset::PiExport)),
        (format!("ann,1,{seed},hotp,6\n"), Some(Preset::PiExport)),
        (format!("# version: 2\nann,users,realm,1,{seed},totp,6,30\n"), Some(Preset::PiOath)),
        (format!("1,{seed},hotp,6,0\n"), Some(Preset::PiOath)),
        (format!("1,{seed},totp,8,60\n"), Some(Preset::PiOath)),
        (format!("1,{seed},totp,6,30,sha256\n"), Some(Preset::LinOtp)),
        (format!("serial,key,type,digits,step,hash\n1,{seed},totp,6,30,sha1\n"), Some(Preset::LinOtp)),
        ("\u{feff}\n otpauth-migration://offline?data=AAAA\n".to_owned(), Some(Preset::GoogleExport)),
        // Some name no kind: it could be either.
        (format!("1,{seed}\n"), None),
        ("username,phone\nann,+49\n".to_owned(), None),
        ("1,not hexadecimal,totp,6,30\n".to_owned(), None),
        (String::new(), None),
        ("\"".to_owned(), None),
    ] {
        assert_eq!(recognise(&Secret::from(text.as_str())), preset, "{text}");
    }
    for name in ["figure2", "figure5", "figure7"] {
        assert_eq!(recognise(&figure(name)), Some(Preset::Pskc), "{name}");
    }
}

#[test]
fn an_encrypted_file_is_named_as_one() {
    let tried = |file: &[u8]| read_tokens(Preset::LinOtp, &Secret::new(file.to_vec()), Opening::Nothing, NOW_MS);
    for (file, with) in [
        (&b"age-encryption.org/v1\n-> X25519 abc\n\xFF\xFE"[..], "age"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", "age"),
        (b"\n-----BEGIN PGP MESSAGE-----\n\nhQ\n", "gpg"),
        (b"\x85\x02\x0C\x03\xFF", "gpg"),
        (b"\xC1\xC0\x4C\x03\xFF", "gpg"),
    ] {
        assert_eq!(tried(file).err(), Some(FileError::Encrypted { with }), "{file:?}");
        assert_eq!(recognise(&Secret::new(file.to_vec())), None);
    }
    assert_eq!(tried(b"\xFF\xFE1,2").err(), Some(FileError::NotText));
    // A serial may begin with a letter that is written as the first octet of such a file.
    assert!(tried("\u{c4}1,3132333435363738393031323334353637383930,totp\n".as_bytes()).is_ok());
}

#[test]
fn numbers_that_are_none_and_names_that_come_twice_are_told() {
    let rows = users(
        "user,phone\na,+49 30 x12345678901\nb,call me\nc,+49 30 901820 x\n,+4930901820\nAnn,+4930901820\nann,+4930901821\n",
        &[],
        OldDisabled::Disabled,
    );
    assert_eq!(
        bad(&rows),
        [
            (2, RowError::Phone),
            (3, RowError::Phone),
            (4, RowError::Phone),
            (5, RowError::Missing("the user name")),
            (7, RowError::Duplicate { row: 6 }),
        ]
    );
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}

proptest! {
    #[test]
    fn whatever_a_file_holds_reading_it_ends_and_good_rows_are_good(text in "(?s)[a-z0-9,;\"\n\r# :%<>=/?&-]{0,400}", preset in 0..6_usize) {
        let rows = read_tokens(Preset::ALL[preset], &Secret::from(text.clone()), Opening::Nothing, NOW_MS);
        for token in rows.into_iter().flatten().filter_map(|row| row.content.ok()) {
            prop_assert!((10..=80).contains(&token.seed.len()) && (6..=8).contains(&token.digits) && !token.serial.is_empty());
        }
        let _ = read_users(&Secret::from(text), &Mapping::default(), OldDisabled::Disabled);
    }

    #[test]
    fn what_was_quoted_is_read_as_it_was(serial in "[ -~]{1,40}", model in "[ -~\u{e4}\u{20ac}]{0,30}") {
        prop_assume!(!serial.trim().is_empty());
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let file = format!(
            "upn,serial number,secret key,time interval,manufacturer,model\n,{},JBSWY3DPEHPK3PXP,30,,{}\n", quoted(&serial), quoted(&model)
        );
        let token = only(read(Preset::EntraOath, &file));
        prop_assert_eq!(token.serial, serial.trim());
        prop_assert_eq!(token.model, model.trim());
    }
}
