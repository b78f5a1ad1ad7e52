mod mounts;
mod uploads;
