//! Times by the sun: `celery/schedules.py`, class `solar`, which asks PyEphem.
//!
//! The sun's place is calculated from the low-precision series of Meeus, *Astronomical Algorithms*, chapter 25 (0.01°, about three
//! seconds of time). Horizons are PyEphem's as Celery sets them: no refraction; sunrise and sunset when the upper limb stands 34' below
//! the horizon, dawns and dusks when the centre stands 6°, 12° or 18° below. An event that does not happen on a day (the midnight sun)
//! is looked for on the following ones, a year ahead at most, as in 5.7.

use std::f64::consts::TAU;

use thiserror::Error;
use umbel_proto::Millis;

/// How many days ahead an event is looked for (`solar.max_search_days`).
const DAYS_MAX: i64 = 367;

const DAY_MS: f64 = 86_400_000.0;

/// What the sun does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolarEvent {
    /// It comes to 18° below the horizon.
    DawnAstronomical,
    /// It comes to 12° below the horizon.
    DawnNautical,
    /// It comes to 6° below the horizon.
    DawnCivil,
    /// It rises.
    Sunrise,
    /// It is highest.
    SolarNoon,
    /// It sets.
    Sunset,
    /// It goes to 6° below the horizon.
    DuskCivil,
    /// It goes to 12° below the horizon.
    DuskNautical,
    /// It goes to 18° below the horizon.
    DuskAstronomical,
}

impl SolarEvent {
    /// Each with its name in Celery.
    pub const ALL: [(&str, Self); 9] = [
        ("dawn_astronomical", Self::DawnAstronomical),
        ("dawn_nautical", Self::DawnNautical),
        ("dawn_civil", Self::DawnCivil),
        ("sunrise", Self::Sunrise),
        ("solar_noon", Self::SolarNoon),
        ("sunset", Self::Sunset),
        ("dusk_civil", Self::DuskCivil),
        ("dusk_nautical", Self::DuskNautical),
        ("dusk_astronomical", Self::DuskAstronomical),
    ];

    /// The event of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, event)| event)
    }

    /// How far below the horizon the centre, or the upper limb, stands, in degrees.
    fn depth(self) -> (f64, Limb) {
        match self {
            Self::DawnAstronomical | Self::DuskAstronomical => (18.0, Limb::Centre),
            Self::DawnNautical | Self::DuskNautical => (12.0, Limb::Centre),
            Self::DawnCivil | Self::DuskCivil => (6.0, Limb::Centre),
            Self::Sunrise | Self::Sunset | Self::SolarNoon => (34.0 / 60.0, Limb::Upper),
        }
    }

    /// Before noon, at noon or after it.
    fn side(self) -> f64 {
        match self {
            Self::DawnAstronomical | Self::DawnNautical | Self::DawnCivil | Self::Sunrise => -1.0,
            Self::SolarNoon => 0.0,
            Self::Sunset | Self::DuskCivil | Self::DuskNautical | Self::DuskAstronomical => 1.0,
        }
    }
}

impl std::fmt::Display for SolarEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.into_iter().find(|(_, event)| event == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limb {
    Centre,
    Upper,
}

/// Why something is no place on earth.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum SolarError {
    /// No latitude.
    #[error("the latitude {0} is not between -90 and 90")]
    Latitude(f64),
    /// No longitude.
    #[error("the longitude {0} is not between -180 and 180")]
    Longitude(f64),
}

/// An event at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solar {
    event: SolarEvent,
    latitude: f64,
    longitude: f64,
}

/// Where the sun is.
struct Sun {
    /// Declination, in radians.
    declination: f64,
    /// Right ascension, in radians.
    ascension: f64,
    /// How wide it seems: half its angle, in radians.
    radius: f64,
}

impl Solar {
    /// An event at a place, in degrees north and east.
    ///
    /// # Errors
    /// When it is no place.
    pub fn new(event: SolarEvent, latitude: f64, longitude: f64) -> Result<Self, SolarError> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(SolarError::Latitude(latitude));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(SolarError::Longitude(longitude));
        }
        Ok(Self { event, latitude, longitude })
    }

    /// The first event after `last`. Where there is none within a year, the time at which the looking ended, so that it is looked
    /// for again then.
    pub(super) fn after(&self, last: Millis) -> Option<Millis> {
        let today = (last as f64 / DAY_MS + self.longitude / 360.0).floor() as i64;
        for day in today - 1..today + DAYS_MAX {
            if let Some(at) = self.on(day).filter(|at| *at > last) {
                return Some(at);
            }
        }
        last.checked_add(DAYS_MAX * DAY_MS as i64)
    }

    /// The event of a day, counted by local solar days from 1970 on.
    fn on(&self, day: i64) -> Option<Millis> {
        // Days of universal time; the mean noon of the place.
        let noon = day as f64 + 0.5 - self.longitude / 360.0;
        let mut at = noon + self.event.side() * 0.25;
        let mut happens = true;
        for _ in 0..10 {
            // When the sun, where it is at `at`, stands at that angle.
            let sun = sun(at);
            let cosine = if self.event.side() == 0.0 { 1.0 } else { self.cosine(&sun) };
            // On the edge, whether it comes that far is only known of the place where it is then.
            happens = (-1.0..=1.0).contains(&cosine);
            let next = self.at_angle(noon, &sun, self.event.side() * cosine.clamp(-1.0, 1.0).acos() / TAU);
            let moved = (next - at).abs();
            at = next;
            if moved < 1e-7 {
                break;
            }
        }
        happens.then(|| (at * DAY_MS).round() as Millis)
    }

    /// When the sun is `angle` turns past the meridian, around `noon`.
    fn at_angle(&self, noon: f64, sun: &Sun, angle: f64) -> f64 {
        let past = (sidereal(noon) + self.longitude.to_radians() - sun.ascension) / TAU;
        noon + (angle - (past - past.round())) / SIDEREAL_TURNS
    }

    /// The cosine of the angle by which the event is away from noon; beyond 1 the sun does not come to that height.
    fn cosine(&self, sun: &Sun) -> f64 {
        let (depth, limb) = self.event.depth();
        let height = -depth.to_radians() - if limb == Limb::Upper { sun.radius } else { 0.0 };
        let latitude = self.latitude.to_radians();
        (height.sin() - latitude.sin() * sun.declination.sin()) / (latitude.cos() * sun.declination.cos())
    }
}

/// Turns of the earth in a day.
const SIDEREAL_TURNS: f64 = 1.002_737_909_35;

/// Sidereal time at Greenwich, in radians; `at` in days since 1970 (Meeus, chapter 12).
fn sidereal(at: f64) -> f64 {
    (280.460_618_37 + 360.985_647_366_29 * (at - 10_957.5)).to_radians()
}

fn sun(at: f64) -> Sun {
    // Centuries since J2000; terrestrial time is about 70 s ahead of universal time in these years.
    let t = (at - 10_957.5 + 70.0 / 86_400.0) / 36_525.0;
    let mean_longitude = 280.466_46 + t * (36_000.769_83 + t * 0.000_303_2);
    let anomaly = (357.529_11 + t * (35_999.050_29 - t * 0.000_153_7)).to_radians();
    let eccentricity = 0.016_708_634 - t * (0.000_042_037 + t * 0.000_000_126_7);
    let centre = (1.914_602 - t * (0.004_817 + t * 0.000_014)) * anomaly.sin()
        + (0.019_993 - t * 0.000_101) * (2.0 * anomaly).sin()
        + 0.000_289 * (3.0 * anomaly).sin();
    let node = (125.04 - 1_934.136 * t).to_radians();
    let longitude = (mean_longitude + centre - 0.005_69 - 0.004_78 * node.sin()).to_radians();
    let obliquity = (23.439_291 - t * 0.013_004_2 + 0.002_56 * node.cos()).to_radians();
    let distance = 1.000_001_018 * (1.0 - eccentricity * eccentricity) / (1.0 + eccentricity * (anomaly + centre.to_radians()).cos());
    Sun {
        declination: (obliquity.sin() * longitude.sin()).asin(),
        ascension: (obliquity.cos() * longitude.sin()).atan2(longitude.cos()),
        radius: (959.63_f64 / 3_600.0 / distance).to_radians(),
    }
}
