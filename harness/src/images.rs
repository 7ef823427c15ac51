//! Base images: each combination of image knobs is formatted once, on an anonymous memory map, and
//! shared by all executions that start from it.

use crate::program::ImageKnobs;
use crate::target::PowerTarget;
use crate::target::engine::{EngineTarget, mkfs};
use engine::options::ImageOptions;
use machine::choosers::RoundRobin;
use machine::disk::{BlockSource, Disk};
use machine::medium::Medium;
use machine::{Config, DeviceId, End, Kind, Machine, Task};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

/// Images kept at most; the oldest goes first. A campaign draws from 768 combinations; an image
/// takes some 40 KiB, as only what is not poison takes memory.
const IMAGES_MAX: usize = 1024;

/// A new, empty image.
pub struct Base {
    /// Its devices, whose content never changes.
    pub devices: SmallVec<[Rc<dyn BlockSource>; 2]>,
    /// Free blocks when it was made, if the target can tell: what must come back when everything
    /// is deleted.
    pub free_blocks: Option<u64>,
}

/// The images made so far.
pub struct Images<T = EngineTarget> {
    made: Vec<(ImageKnobs, Rc<Base>)>,
    target: PhantomData<T>,
}

impl Default for Images {
    fn default() -> Self {
        Images::of_target()
    }
}

impl<T: PowerTarget> Images<T> {
    /// No images, of a target that the type names.
    pub fn of_target() -> Self {
        Images { made: Vec::new(), target: PhantomData }
    }

    /// The image for these knobs.
    ///
    /// # Errors
    /// A sentence, if the memory map or the image cannot be made.
    pub fn base(&mut self, knobs: &ImageKnobs) -> Result<Rc<Base>, String> {
        if let Some((_, base)) = self.made.iter().find(|(known, _)| known == knobs) {
            return Ok(base.clone());
        }
        let base = Rc::new(make::<T>(knobs)?);
        if self.made.len() == IMAGES_MAX {
            self.made.remove(0);
        }
        self.made.push((*knobs, base.clone()));
        Ok(base)
    }
}

fn make<T: PowerTarget>(knobs: &ImageKnobs) -> Result<Base, String> {
    let devices =
        T::devices(knobs).map_err(|error| format!("failed to make the image: {error}"))?;
    let mut media = Vec::new();
    for (device, blocks) in devices.into_iter().enumerate() {
        let medium = Medium::anonymous(blocks, device as u8)
            .map_err(|error| format!("failed to map the image: {error}"))?;
        media.push(Rc::new(RefCell::new(medium)));
    }
    let knobs = *knobs;
    let free_blocks = settled(&media, move |task| T::format(task, &knobs))?;
    let devices = media.into_iter().map(|medium| medium as Rc<dyn BlockSource>).collect();
    Ok(Base { devices, free_blocks })
}

/// Runs the engine's mkfs on the media and settles the result into them; free blocks afterwards.
///
/// # Errors
/// A sentence, if mkfs or the settling fails.
pub fn format(media: &[Rc<RefCell<Medium>>], options: &ImageOptions) -> Result<u64, String> {
    let options = *options;
    settled(media, move |task| mkfs(task, &options))
}

/// Runs what makes an image in a fibre, and settles what it wrote into the media.
fn settled<R: 'static, E: std::fmt::Display + 'static>(
    media: &[Rc<RefCell<Medium>>],
    make: impl FnOnce(&Task) -> Result<R, E> + 'static,
) -> Result<R, String> {
    let bases = media.iter().map(|medium| medium.clone() as Rc<dyn BlockSource>).collect();
    let machine = Machine::new(Config::default(), Disk::new(bases), Box::new(RoundRobin));
    let result = Rc::new(Cell::new(None));
    let inside = result.clone();
    let body = move |task: &Task| {
        inside.set(Some(make(task)));
        Ok(())
    };
    machine.spawn("mkfs", Kind::Foreground, Box::new(body));
    if machine.run() != End::Done {
        let fault = machine.faults().first().map_or(String::new(), ToString::to_string);
        return Err(format!("failed to make the image: {fault}"));
    }
    let made = match result.take() {
        Some(Ok(made)) => made,
        Some(Err(error)) => return Err(format!("failed to make the image: {error}")),
        None => return Err("failed to make the image: mkfs did not end".to_string()),
    };
    machine.drain_disk();
    for (device, medium) in media.iter().enumerate() {
        let disk = machine.disk();
        disk.settle(DeviceId(device as u8), &mut medium.borrow_mut())
            .map_err(|error| format!("failed to settle the image: {error}"))?;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::Block;

    /// All blocks of the devices of an image.
    fn contents(devices: &[Rc<dyn BlockSource>]) -> Vec<Block> {
        let device = |device: &Rc<dyn BlockSource>| {
            (0..device.blocks()).map(|block| device.read(block)).collect::<Vec<_>>()
        };
        devices.iter().flat_map(device).collect()
    }

    #[test]
    fn a_base_image_is_what_mkfs_makes_with_poison_but_for_its_identity() {
        let knobs = ImageKnobs { blocks: 128, logdev: true, ..ImageKnobs::default() };
        let base = Images::default().base(&knobs).expect("an image");
        let options = crate::knobs::image_options(&knobs);
        assert!(options.poison);
        let medium = |blocks| Medium::anonymous(blocks, 9).expect("memory");
        let media: Vec<_> = options.devices().into_iter().map(medium).collect();
        let media: Vec<_> = media.into_iter().map(|medium| Rc::new(RefCell::new(medium))).collect();
        let free = format(&media, &options).expect("an image");
        let made: Vec<_> = media.into_iter().map(|medium| medium as Rc<dyn BlockSource>).collect();
        assert_eq!(Some(free), base.free_blocks);
        // The superblocks differ in the identity of the image, which tells all options.
        let (made, base) = (contents(&made), contents(&base.devices));
        assert_eq!(made.len(), base.len());
        let differ: Vec<_> = (0..made.len()).filter(|block| made[*block] != base[*block]).collect();
        assert_eq!(differ, [0, 1], "blocks that differ from what mkfs makes");
    }
}
