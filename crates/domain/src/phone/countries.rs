//! Countries as a number needs them: calling code, trunk prefix, how many digits a number has.
//!
//! From Google's libphonenumber 9.0.33 (`PhoneNumberMetadata.xml`), which follows ITU-T E.164's list and the plans that countries
//! publish; of each country only what tells where the calling code ends and whether a digit is dialled within the country only.
//! Whether a number is in use is verification's question, which has the whole of it.

/// What a number without calling code needs to become one with it.
pub(super) struct Country {
    /// ISO 3166, two letters.
    pub iso: &'static str,
    pub calling_code: &'static str,
    /// What is dialled before numbers within the country and is no part of them, a space between several.
    trunk: &'static str,
    /// Digits of a number of a person, without calling code and trunk prefix.
    pub digits_min: usize,
    pub digits_max: usize,
}

const fn row(
    iso: &'static str,
    calling_code: &'static str,
    trunk: &'static str,
    digits_min: usize,
    digits_max: usize,
) -> Country {
    Country { iso, calling_code, trunk, digits_min, digits_max }
}

/// Calling codes that belong to no country: satellites and international services (ITU-T E.164, annex A).
const NO_COUNTRY: &[&str] = &["870", "878", "881", "882", "883"];

/// Where numbers may begin with a zero that is dialled from abroad, too.
const ZERO_LEADS: &[&str] = &["39", "225", "226", "227", "229", "241", "242", "378", "992"];

impl Country {
    pub fn of(iso: &str) -> Option<&'static Self> {
        COUNTRIES.iter().find(|country| country.iso.eq_ignore_ascii_case(iso))
    }

    /// Whose calling code begins an international number. Several share one: they share the trunk prefix, and any of them may be
    /// meant.
    pub fn calling(digits: &str) -> Option<&'static Self> {
        // No calling code begins another one, so that the first is the only one; of those that share it the laxest counts.
        let sharing = COUNTRIES.iter().filter(|country| digits.starts_with(country.calling_code));
        sharing.min_by_key(|country| country.digits_min)
    }

    /// What is dialled before international numbers from there, beside the usual `00`.
    pub fn international_prefix(&self) -> Option<&'static str> {
        match (self.calling_code, self.iso) {
            ("1", _) | (_, "MH") => Some("011"),
            ("61", _) => Some("0011"),
            ("81", _) => Some("010"),
            ("7" | "992" | "993", _) | (_, "BY") => Some("810"),
            ("53", _) => Some("119"),
            ("254", _) => Some("000"),
            _ => None,
        }
    }

    /// Without the trunk prefix. A zero is always one where it is one at all; any other digit may also begin a number and is one
    /// only where there are too many digits without it.
    pub fn without_trunk<'a>(&self, national: &'a str) -> &'a str {
        let mut digits = national;
        while let Some(rest) = self
            .trunk
            .split(' ')
            .filter(|trunk| !trunk.is_empty())
            .find_map(|trunk| digits.strip_prefix(trunk).filter(|_| trunk == "0" || digits.len() > self.digits_max))
        {
            digits = rest;
        }
        digits
    }

    pub fn zero_leads(&self) -> bool {
        ZERO_LEADS.contains(&self.calling_code)
    }
}

/// An international number of a calling code that no country has.
pub(super) fn of_no_country(digits: &str) -> bool {
    NO_COUNTRY.iter().any(|code| digits.starts_with(code))
}

const COUNTRIES: &[Country] = &[
    row("AC", "247", "", 5, 6),
    row("AD", "376", "", 6, 9),
    row("AE", "971", "0", 8, 9),
    row("AF", "93", "0", 9, 9),
    row("AG", "1", "1", 10, 10),
    row("AI", "1", "1", 10, 10),
    row("AL", "355", "0", 8, 9),
    row("AM", "374", "0", 8, 8),
    row("AO", "244", "", 9, 9),
    row("AR", "54", "0", 10, 11),
    row("AS", "1", "1", 10, 10),
    row("AT", "43", "0", 4, 13),
    row("AU", "61", "0", 9, 9),
    row("AW", "297", "", 7, 7),
    row("AX", "358", "0", 5, 12),
    row("AZ", "994", "0", 9, 9),
    row("BA", "387", "0", 8, 9),
    row("BB", "1", "1", 10, 10),
    row("BD", "880", "0", 6, 10),
    row("BE", "32", "0", 8, 9),
    row("BF", "226", "", 8, 8),
    row("BG", "359", "0", 6, 9),
    row("BH", "973", "", 8, 8),
    row("BI", "257", "", 8, 8),
    row("BJ", "229", "", 8, 10),
    row("BL", "590", "0", 9, 9),
    row("BM", "1", "1", 10, 10),
    row("BN", "673", "", 7, 7),
    row("BO", "591", "0", 8, 8),
    row("BQ", "599", "", 7, 7),
    row("BR", "55", "0", 10, 11),
    row("BS", "1", "1", 10, 10),
    row("BT", "975", "", 7, 8),
    row("BW", "267", "", 7, 8),
    row("BY", "375", "80 0", 9, 9),
    row("BZ", "501", "", 7, 7),
    row("CA", "1", "1", 10, 10),
    row("CC", "61", "0", 9, 9),
    row("CD", "243", "0", 7, 10),
    row("CF", "236", "", 8, 8),
    row("CG", "242", "", 9, 9),
    row("CH", "41", "0", 9, 9),
    row("CI", "225", "", 10, 10),
    row("CK", "682", "", 5, 5),
    row("CL", "56", "", 9, 9),
    row("CM", "237", "", 9, 9),
    row("CN", "86", "0", 7, 11),
    row("CO", "57", "0", 8, 10),
    row("CR", "506", "", 8, 8),
    row("CU", "53", "0", 6, 10),
    row("CV", "238", "", 7, 7),
    row("CW", "599", "", 7, 8),
    row("CX", "61", "0", 9, 9),
    row("CY", "357", "", 8, 8),
    row("CZ", "420", "", 9, 9),
    row("DE", "49", "0", 5, 15),
    row("DJ", "253", "", 8, 8),
    row("DK", "45", "", 8, 8),
    row("DM", "1", "1", 10, 10),
    row("DO", "1", "1", 10, 10),
    row("DZ", "213", "0", 8, 9),
    row("EC", "593", "0", 8, 9),
    row("EE", "372", "", 7, 8),
    row("EG", "20", "0", 8, 10),
    row("EH", "212", "0", 9, 9),
    row("ER", "291", "0", 7, 7),
    row("ES", "34", "", 9, 9),
    row("ET", "251", "0", 9, 9),
    row("FI", "358", "0", 5, 12),
    row("FJ", "679", "", 7, 7),
    row("FK", "500", "", 5, 5),
    row("FM", "691", "", 7, 7),
    row("FO", "298", "", 6, 6),
    row("FR", "33", "0", 9, 9),
    row("GA", "241", "", 7, 8),
    row("GB", "44", "0", 9, 10),
    row("GD", "1", "1", 10, 10),
    row("GE", "995", "0", 9, 9),
    row("GF", "594", "0", 9, 9),
    row("GG", "44", "0", 10, 10),
    row("GH", "233", "0", 9, 9),
    row("GI", "350", "", 8, 8),
    row("GL", "299", "", 6, 6),
    row("GM", "220", "", 7, 7),
    row("GN", "224", "", 8, 9),
    row("GP", "590", "0", 9, 9),
    row("GQ", "240", "", 9, 9),
    row("GR", "30", "", 10, 10),
    row("GT", "502", "", 8, 8),
    row("GU", "1", "1", 10, 10),
    row("GW", "245", "", 7, 9),
    row("GY", "592", "", 7, 7),
    row("HK", "852", "", 8, 8),
    row("HN", "504", "", 8, 8),
    row("HR", "385", "0", 8, 9),
    row("HT", "509", "", 8, 8),
    row("HU", "36", "06", 8, 9),
    row("ID", "62", "0", 7, 12),
    row("IE", "353", "0", 7, 10),
    row("IL", "972", "0", 8, 12),
    row("IM", "44", "0", 10, 10),
    row("IN", "91", "0", 10, 10),
    row("IO", "246", "", 7, 7),
    row("IQ", "964", "0", 8, 10),
    row("IR", "98", "0", 4, 10),
    row("IS", "354", "", 7, 9),
    row("IT", "39", "", 6, 12),
    row("JE", "44", "0", 10, 10),
    row("JM", "1", "1", 10, 10),
    row("JO", "962", "0", 8, 9),
    row("JP", "81", "0", 9, 10),
    row("KE", "254", "0", 7, 9),
    row("KG", "996", "0", 9, 9),
    row("KH", "855", "0", 8, 9),
    row("KI", "686", "0", 5, 8),
    row("KM", "269", "", 7, 7),
    row("KN", "1", "1", 10, 10),
    row("KP", "850", "0", 8, 10),
    row("KR", "82", "0", 5, 11),
    row("KW", "965", "", 8, 8),
    row("KY", "1", "1", 10, 10),
    row("KZ", "7", "8", 10, 10),
    row("LA", "856", "0", 8, 10),
    row("LB", "961", "0", 7, 8),
    row("LC", "1", "1", 10, 10),
    row("LI", "423", "0", 7, 9),
    row("LK", "94", "0", 9, 9),
    row("LR", "231", "0", 7, 9),
    row("LS", "266", "", 8, 8),
    row("LT", "370", "0 8", 8, 8),
    row("LU", "352", "", 4, 11),
    row("LV", "371", "", 8, 8),
    row("LY", "218", "0", 9, 9),
    row("MA", "212", "0", 9, 9),
    row("MC", "377", "0", 8, 9),
    row("MD", "373", "0", 8, 8),
    row("ME", "382", "0", 8, 8),
    row("MF", "590", "0", 9, 9),
    row("MG", "261", "0", 9, 9),
    row("MH", "692", "1", 7, 7),
    row("MK", "389", "0", 8, 8),
    row("ML", "223", "", 8, 8),
    row("MM", "95", "0", 6, 10),
    row("MN", "976", "0", 8, 10),
    row("MO", "853", "", 8, 8),
    row("MP", "1", "1", 10, 10),
    row("MQ", "596", "0", 9, 9),
    row("MR", "222", "", 8, 8),
    row("MS", "1", "1", 10, 10),
    row("MT", "356", "", 8, 8),
    row("MU", "230", "", 7, 8),
    row("MV", "960", "", 7, 7),
    row("MW", "265", "0", 7, 9),
    row("MX", "52", "", 10, 10),
    row("MY", "60", "0", 8, 10),
    row("MZ", "258", "", 8, 9),
    row("NA", "264", "0", 8, 9),
    row("NC", "687", "", 6, 6),
    row("NE", "227", "", 8, 8),
    row("NF", "672", "", 6, 6),
    row("NG", "234", "0", 10, 14),
    row("NI", "505", "", 8, 8),
    row("NL", "31", "0", 5, 11),
    row("NO", "47", "", 5, 8),
    row("NP", "977", "0", 8, 10),
    row("NR", "674", "", 7, 7),
    row("NU", "683", "", 4, 7),
    row("NZ", "64", "0", 5, 10),
    row("OM", "968", "", 8, 8),
    row("PA", "507", "", 7, 8),
    row("PE", "51", "0", 8, 9),
    row("PF", "689", "", 6, 8),
    row("PG", "675", "", 7, 8),
    row("PH", "63", "0", 6, 10),
    row("PK", "92", "0", 9, 12),
    row("PL", "48", "", 7, 9),
    row("PM", "508", "0", 6, 9),
    row("PR", "1", "1", 10, 10),
    row("PS", "970", "0", 8, 9),
    row("PT", "351", "", 9, 9),
    row("PW", "680", "", 7, 7),
    row("PY", "595", "0", 6, 9),
    row("QA", "974", "", 8, 8),
    row("RE", "262", "0", 9, 9),
    row("RO", "40", "0", 6, 9),
    row("RS", "381", "0", 6, 12),
    row("RU", "7", "8", 10, 10),
    row("RW", "250", "0", 8, 9),
    row("SA", "966", "0", 9, 9),
    row("SB", "677", "", 5, 7),
    row("SC", "248", "", 7, 7),
    row("SD", "249", "0", 9, 9),
    row("SE", "46", "0", 7, 9),
    row("SG", "65", "", 8, 11),
    row("SH", "290", "", 4, 5),
    row("SI", "386", "0", 8, 8),
    row("SJ", "47", "", 5, 8),
    row("SK", "421", "0", 6, 9),
    row("SL", "232", "0", 8, 8),
    row("SM", "378", "", 8, 10),
    row("SN", "221", "", 9, 9),
    row("SO", "252", "0", 6, 9),
    row("SR", "597", "", 6, 7),
    row("SS", "211", "0", 9, 9),
    row("ST", "239", "", 7, 7),
    row("SV", "503", "", 8, 8),
    row("SX", "1", "1", 10, 10),
    row("SY", "963", "0", 8, 9),
    row("SZ", "268", "", 8, 8),
    row("TA", "290", "", 4, 4),
    row("TC", "1", "1", 10, 10),
    row("TD", "235", "", 8, 8),
    row("TG", "228", "", 8, 8),
    row("TH", "66", "0", 8, 9),
    row("TJ", "992", "", 9, 9),
    row("TK", "690", "", 4, 7),
    row("TL", "670", "", 7, 8),
    row("TM", "993", "8", 8, 8),
    row("TN", "216", "", 8, 8),
    row("TO", "676", "", 5, 7),
    row("TR", "90", "0", 7, 10),
    row("TT", "1", "1", 10, 10),
    row("TV", "688", "", 5, 7),
    row("TW", "886", "0", 8, 11),
    row("TZ", "255", "0", 9, 9),
    row("UA", "380", "0", 9, 9),
    row("UG", "256", "0", 9, 9),
    row("US", "1", "1", 10, 10),
    row("UY", "598", "0", 4, 8),
    row("UZ", "998", "", 9, 9),
    row("VA", "39", "", 6, 11),
    row("VC", "1", "1", 10, 10),
    row("VE", "58", "0", 10, 10),
    row("VG", "1", "1", 10, 10),
    row("VI", "1", "1", 10, 10),
    row("VN", "84", "0", 7, 10),
    row("VU", "678", "", 5, 7),
    row("WF", "681", "", 6, 6),
    row("WS", "685", "", 5, 10),
    row("XK", "383", "0", 8, 12),
    row("YE", "967", "0", 7, 9),
    row("YT", "262", "0", 9, 9),
    row("ZA", "27", "0", 5, 10),
    row("ZM", "260", "0", 9, 9),
    row("ZW", "263", "0", 5, 10),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_calling_code_begins_another_and_sharers_agree() {
        for country in COUNTRIES {
            assert!(country.digits_min <= country.digits_max, "{}", country.iso);
            assert!(!of_no_country(country.calling_code), "{}", country.iso);
            for other in COUNTRIES {
                if other.calling_code.starts_with(country.calling_code) {
                    assert_eq!(other.calling_code, country.calling_code, "{} {}", country.iso, other.iso);
                    assert_eq!(other.trunk, country.trunk, "{} {}", country.iso, other.iso);
                }
            }
        }
        assert!(COUNTRIES.is_sorted_by(|one, next| one.iso < next.iso));
    }
}
