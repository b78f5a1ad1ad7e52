use super::*;

fn platform(words: &str) -> Platform {
    let mut words = words.split('/').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    Platform { os: next(), architecture: next(), variant: next() }
}

fn fits(host: &str, image: &str) -> bool {
    platform(host).fitness(&platform(image)).is_some()
}

#[test]
fn a_64_bit_host_runs_images_of_its_32_bit_ancestor_and_those_that_name_no_platform() {
    for (image, runs) in [
        ("linux/amd64", true),
        ("linux/386", true),
        ("", true),
        ("linux", true),
        ("/amd64", true),
        ("linux/arm64", false),
        ("windows/amd64", false),
    ] {
        assert_eq!(fits("linux/amd64/v3", image), runs, "{image}");
    }
}

#[test]
fn other_words_for_a_platform_are_understood() {
    for (host, image) in [
        ("linux/amd64/v1", "linux/x86_64"),
        ("linux/amd64/v1", "Linux/X86-64"),
        ("linux/amd64/v1", "linux/AMD64/V1"),
        ("linux/amd64/v1", "linux/i386"),
        ("linux/arm64/v8", "linux/aarch64"),
        ("linux/arm64/v8", "linux/arm64/8"),
        ("linux/arm/v7", "linux/armhf"),
        ("linux/arm/v6", "linux/armel"),
    ] {
        assert!(fits(host, image), "{image} on {host}");
    }
}

#[test]
fn an_image_for_more_than_the_processor_can_does_not_run() {
    assert!(fits("linux/amd64/v2", "linux/amd64/v2") && !fits("linux/amd64/v2", "linux/amd64/v3"));
    assert!(fits("linux/arm/v6", "linux/arm/v5") && !fits("linux/arm/v6", "linux/arm"));
    assert!(fits("linux/arm64/v8", "linux/arm/v7") && !fits("linux/arm64/v8", "linux/arm64/v9"));
}

#[test]
fn the_best_level_fits_best_then_those_that_nobody_knows_then_the_32_bit_ancestor() {
    let host = platform("linux/amd64/v3");
    let fitness = |image| host.fitness(&platform(image)).unwrap();
    let best_first = ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/amd64/skylake", "linux/386"];
    assert!(best_first.windows(2).all(|pair| fitness(pair[0]) > fitness(pair[1])));
    assert_eq!(fitness("linux/amd64"), fitness("linux/amd64/v1"));
}

#[test]
fn the_processors_level_is_the_highest_of_which_nothing_is_missing() {
    let v2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3";
    let v3 = "abm avx avx2 bmi1 bmi2 f16c fma movbe";
    for (flags, variant) in [
        (String::new(), "v1"),
        (v2.to_owned(), "v2"),
        (v3.to_owned(), "v1"),
        (format!("{v3} {v2}"), "v3"),
        (format!("{v2} {v3} avx512f avx512bw avx512cd avx512dq"), "v3"),
        (format!("{v2} {v3} avx512f avx512bw avx512cd avx512dq avx512vl"), "v4"),
    ] {
        let processor = format!("processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\nflags\t\t: fpu\n");
        assert_eq!(Platform::of_processor("x86_64", &processor), platform(&format!("linux/amd64/{variant}")));
    }
    assert_eq!(Platform::of_processor("aarch64", "Features\t: fp sve2\n"), platform("linux/arm64/v9"));
    assert_eq!(Platform::of_processor("arm", "CPU architecture: 6TEJ\n"), platform("linux/arm/v6"));
}
