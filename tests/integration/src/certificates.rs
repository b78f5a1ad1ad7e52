//! Authorities and what they have signed, made by `openssl`.

use std::path::{Path, PathBuf};

use crate::process::{require, run};

const PACKAGE: &str = "openssl";

/// An authority with its files in a directory.
pub struct Authority {
    directory: PathBuf,
    name: String,
}

impl Authority {
    /// A new one.
    pub async fn new(directory: &Path, name: &str) -> Self {
        require("openssl", PACKAGE);
        let authority = Self { directory: directory.to_owned(), name: name.to_owned() };
        let (key, certificate) = (authority.file(name, "key"), authority.file(name, "pem"));
        let subject = format!("/CN={name}");
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
        run("openssl", &[&new[..], &["-keyout", &key, "-out", &certificate]].concat()).await;
        authority
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> String {
        self.file(&self.name, "pem")
    }

    /// Signs a certificate for `name` at 127.0.0.1; the files of the certificate and of its key.
    pub async fn sign(&self, name: &str) -> (String, String) {
        let [key, request, certificate, extensions] =
            ["key", "csr", "pem", "ext"].map(|extension| self.file(name, extension));
        std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").expect("a file");
        let subject = format!("/CN={name}");
        let ask = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request];
        run("openssl", &ask).await;
        let (authority, secret) = (self.certificate(), self.file(&self.name, "key"));
        let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &authority, "-CAkey", &secret];
        let rest = ["-CAcreateserial", "-extfile", &extensions, "-out", &certificate];
        run("openssl", &[&sign[..], &rest].concat()).await;
        (certificate, key)
    }

    fn file(&self, name: &str, extension: &str) -> String {
        self.directory.join(format!("{name}.{extension}")).display().to_string()
    }
}
