//! `/etc/shadow`: one account's password replaced by another (shadow(5), crypt(5)).

use sha_crypt::{PasswordHasher as _, ShaCrypt};
use yescrypt::Yescrypt;

/// What a hash by yescrypt begins with.
const YESCRYPT: &str = "$y$";
/// Bytes of salt: 16 characters, as many as sha512-crypt takes.
const SHA512_SALT: usize = 12;
const YESCRYPT_SALT: usize = 16;

/// The file with a new password of `user`, who can log in with it at once; none when the file has no such account. `today` is in
/// days since 1970.
///
/// The other hashes of the file say what its login programs understand: yescrypt where one of them is by yescrypt, and else
/// sha512-crypt, which every C library has.
pub(super) fn with_password(shadow: &str, user: &str, password: &str, today: u64) -> Option<Result<String, String>> {
    let is_users = |line: &&str| line.split(':').next() == Some(user);
    shadow.lines().find(is_users)?;
    let hash = match hash(password, shadow.lines().any(is_yescrypt)) {
        Ok(hash) => hash,
        Err(problem) => return Some(Err(problem)),
    };
    let changed = |line: &str| match is_users(&line) {
        true => changed_line(line, &hash, today),
        false => line.to_owned(),
    };
    let mut text = shadow.lines().map(changed).collect::<Vec<_>>().join("\n");
    text.push('\n');
    Some(Ok(text))
}

fn is_yescrypt(line: &str) -> bool {
    // A locked password is still there behind its mark.
    line.split(':').nth(1).is_some_and(|hash| hash.trim_start_matches('!').starts_with(YESCRYPT))
}

fn changed_line(line: &str, hash: &str, today: u64) -> String {
    let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
    // A line is as short as its writer was lazy.
    fields.resize(fields.len().max(9), String::new());
    fields[1] = hash.to_owned();
    fields[2] = today.to_string();
    fields.join(":")
}

fn hash(password: &str, by_yescrypt: bool) -> Result<String, String> {
    let hashed = match by_yescrypt {
        true => Yescrypt::default()
            .hash_password_with_salt(password.as_bytes(), &rand::random::<[u8; YESCRYPT_SALT]>())
            .map(|hash| hash.as_str().to_owned()),
        false => ShaCrypt::SHA512
            .hash_password_with_salt(password.as_bytes(), &rand::random::<[u8; SHA512_SALT]>())
            .map(|hash| hash.as_str().to_owned()),
    };
    hashed.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use sha_crypt::PasswordVerifier as _;

    use super::*;

    fn hash_of(shadow: &str, user: &str) -> String {
        let line = shadow.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap();
        line.split(':').nth(1).unwrap().to_owned()
    }

    #[test]
    fn the_users_password_and_its_day_change_and_nothing_else() {
        let before = "root:*:19000:0:99999:7:::\nrootless:!:1:0:99999:7:::\n";
        let after = with_password(before, "root", "secret", 20_786).unwrap().unwrap();
        assert!(after.ends_with("\nrootless:!:1:0:99999:7:::\n"), "{after}");
        assert!(after.lines().next().unwrap().ends_with(":20786:0:99999:7:::"), "{after}");
        let hash = hash_of(&after, "root");
        assert!(hash.starts_with("$6$"), "{hash}");
        let hash = sha_crypt::PasswordHash::new(hash).unwrap();
        ShaCrypt::SHA512.verify_password(b"secret", &hash).unwrap();
        assert!(ShaCrypt::SHA512.verify_password(b"other", &hash).is_err());
    }

    #[test]
    fn a_salt_is_no_longer_than_login_programs_read_it() {
        let after = with_password("root:::0:99999:7:::", "root", "x", 1).unwrap().unwrap();
        let hash = hash_of(&after, "root");
        let salt = hash.split('$').rev().nth(1).unwrap();
        assert_eq!(salt.len(), 16, "{hash}");
    }

    #[test]
    fn yescrypt_stays_yescrypt_even_of_an_account_that_is_locked() {
        for other in ["$y$j9T$salt$hash", "!$y$j9T$salt$hash"] {
            let before = format!("root:*:1::::::\nme:{other}:1::::::\n");
            let hash = hash_of(&with_password(&before, "root", "secret", 2).unwrap().unwrap(), "root");
            assert!(hash.starts_with(YESCRYPT), "{hash}");
            let hash = yescrypt::PasswordHash::new(hash).unwrap();
            Yescrypt::default().verify_password(b"secret", &hash).unwrap();
        }
    }

    #[test]
    fn a_user_who_has_no_account_gets_none() {
        assert_eq!(with_password("rootless:*:1::::::\n", "root", "x", 1), None);
        assert_eq!(with_password("", "root", "x", 1), None);
    }

    #[test]
    fn a_short_line_becomes_a_whole_one() {
        let after = with_password("root", "root", "x", 7).unwrap().unwrap();
        assert_eq!(after.trim_end().split(':').count(), 9);
    }
}
