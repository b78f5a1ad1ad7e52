//! A certificate that signs itself, for `localhost`, in the least that RFC 5280 asks for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const TIME: u8 = 0x17;
/// The subject's alternative name that is a host.
const DNS: u8 = 0x82;

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// It, and its key (DER).
pub struct SelfSigned {
    pub certificate: Vec<u8>,
    key: Vec<u8>,
}

impl SelfSigned {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap();
        let algorithm = der(SEQUENCE, &[&der(OID, &[ECDSA_WITH_SHA256])]);
        let name = der(SEQUENCE, &[&der(OID, &[COMMON_NAME]), &der(UTF8, &[b"localhost"])]);
        let name = der(SEQUENCE, &[&der(SET, &[&name])]);
        let validity = der(SEQUENCE, &[&der(TIME, &[b"200101000000Z"]), &der(TIME, &[b"491231235959Z"])]);
        let curve = der(SEQUENCE, &[&der(OID, &[EC_PUBLIC_KEY]), &der(OID, &[PRIME256V1])]);
        let public = der(SEQUENCE, &[&curve, &der(BIT_STRING, &[&[0], pair.public_key().as_ref()])]);
        let hosts = der(OCTET_STRING, &[&der(SEQUENCE, &[&der(DNS, &[b"localhost"])])]);
        let extension = der(SEQUENCE, &[&der(OID, &[SUBJECT_ALT_NAME]), &hosts]);
        let extensions = der(0xa3, &[&der(SEQUENCE, &[&extension])]);
        let version = der(0xa0, &[&der(INTEGER, &[&[2]])]);
        let serial = der(INTEGER, &[&[1]]);
        let content = der(SEQUENCE, &[&version, &serial, &algorithm, &name, &validity, &name, &public, &extensions]);
        let signature = pair.sign(&random, &content).unwrap();
        let certificate = der(SEQUENCE, &[&content, &algorithm, &der(BIT_STRING, &[&[0], signature.as_ref()])]);
        Self { certificate, key: key.as_ref().to_vec() }
    }

    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Tag, length (of less than 64 KiB), and content.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..128 => vec![tag, low],
        128..256 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}
