package v1alpha1

import (
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (w *MaintenanceWindow) validate(path *field.Path) field.ErrorList {
	if w == nil {
		return nil
	}
	errs := validateZone(path.Child("timeZone"), w.TimeZone)
	errs = append(errs, validateEntries(path.Child("allow"), w.Allow)...)
	errs = append(errs, validateEntries(path.Child("deny"), w.Deny)...)
	if w.Allow != nil && len(w.Allow) == 0 {
		errs = append(errs, field.Invalid(path.Child("allow"), "[]", "an empty list allows nothing; leave allow out to allow always"))
	}
	if w.Gates != nil && len(w.Gates) == 0 {
		errs = append(errs, field.Invalid(path.Child("gates"), "[]", "an empty list gates nothing; leave gates out for the default, Activate and Reboot"))
	}
	for i, g := range w.Gates {
		if g == "" {
			errs = append(errs, field.Required(path.Child("gates").Index(i), ""))
		}
		errs = append(errs, oneOf(path.Child("gates").Index(i), g, GateBuild, GateActivate, GateReboot)...)
	}
	return append(errs, between(path.Child("splay"), w.Splay, 0, 168*time.Hour)...)
}

// validateZone accepts IANA names and UTC. Names without a slash are
// abbreviations and fixed offsets (CET, EST, GMT0) that say nothing about
// summer time where the host stands.
func validateZone(path *field.Path, zone string) field.ErrorList {
	if zone == "" {
		return field.ErrorList{field.Required(path, "an IANA name such as Europe/Berlin, or UTC")}
	}
	fixed := regexp.MustCompile(`^(Etc|SystemV)/`).MatchString(zone)
	if _, err := time.LoadLocation(zone); err != nil || fixed || (zone != "UTC" && !regexp.MustCompile(`/`).MatchString(zone)) {
		return field.ErrorList{field.Invalid(path, zone, "must be an IANA name of a place, such as Europe/Berlin, or UTC; abbreviations and fixed offsets know no summer time")}
	}
	return nil
}

// mostEntries bounds allow and deny each: hosts look through all of them.
const mostEntries = 64

func validateEntries(path *field.Path, entries []WindowEntry) field.ErrorList {
	if len(entries) > mostEntries {
		return field.ErrorList{field.TooMany(path, len(entries), mostEntries)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range entries {
		at, e := path.Index(i), &entries[i]
		errs = append(errs, listName(at.Child("name"), e.Name, seen)...)
		errs = append(errs, e.validate(at)...)
	}
	return errs
}

// listName accepts a DNS-1123 label that no earlier entry of its list has.
func listName(path *field.Path, name string, seen map[string]bool) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if seen[name] {
		return field.ErrorList{field.Duplicate(path, name)}
	}
	seen[name] = true
	return invalid(path, name, validation.IsDNS1123Label(name))
}

func (e *WindowEntry) validate(path *field.Path) field.ErrorList {
	weekly := e.Days != nil || e.Start != "" || e.Duration != nil
	dated := e.From != "" || e.Until != ""
	switch {
	case weekly && dated:
		return field.ErrorList{field.Invalid(path, e.Name, "is weekly (days, start, duration) or dated (from, until), not both")}
	case dated:
		return e.validateDated(path)
	default:
		return e.validateWeekly(path)
	}
}

func (e *WindowEntry) validateDated(path *field.Path) field.ErrorList {
	from, errs := localTime(path.Child("from"), e.From)
	until, more := localTime(path.Child("until"), e.Until)
	errs = append(errs, more...)
	if len(errs) == 0 && !from.Before(until) {
		errs = append(errs, field.Invalid(path.Child("until"), e.Until, "must be after from, "+e.From))
	}
	return errs
}

func localTime(path *field.Path, s string) (time.Time, field.ErrorList) {
	if s == "" {
		return time.Time{}, field.ErrorList{field.Required(path, "a local time such as 2026-12-20T00:00:00")}
	}
	t, err := time.Parse(LocalTimeLayout, s)
	if err != nil {
		return t, field.ErrorList{field.Invalid(path, s, "must be a local time without offset, such as 2026-12-20T00:00:00")}
	}
	return t, nil
}

func (e *WindowEntry) validateWeekly(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.Days != nil && len(e.Days) == 0 {
		errs = append(errs, field.Invalid(path.Child("days"), "[]", "an empty list is no day; leave days out for every day"))
	}
	seen := map[Weekday]bool{}
	for i, d := range e.Days {
		at := path.Child("days").Index(i)
		if d == "" {
			errs = append(errs, field.Required(at, ""))
		}
		errs = append(errs, oneOf(at, d, "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")...)
		if seen[d] {
			errs = append(errs, field.Duplicate(at, d))
		}
		seen[d] = true
	}
	errs = append(errs, match(path.Child("start"), e.Start, `^([01][0-9]|2[0-3]):[0-5][0-9]$`, `a quoted time of day from "00:00" to "23:59"`)...)
	if e.Duration == nil {
		return append(errs, field.Required(path.Child("duration"), "5m to 168h"))
	}
	return append(errs, between(path.Child("duration"), e.Duration, 5*time.Minute, 168*time.Hour)...)
}
