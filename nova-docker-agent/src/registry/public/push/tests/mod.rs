mod deletes;
mod disconnects;
mod indexes;
mod mounts;
mod publishing;
mod tags;
mod undoing;
mod uploads;
