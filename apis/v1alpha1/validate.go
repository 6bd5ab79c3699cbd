package v1alpha1

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/npcnix/npcnix/apis/meta"
)

// flakeAttribute and digest are what the fields of that name must match.
const (
	flakeAttributePattern = `^[A-Za-z0-9_][A-Za-z0-9_'-]{0,127}$`
	digestPattern         = `^sha256:[0-9a-f]{64}$`
	narHashPattern        = `^sha256-[A-Za-z0-9+/]{43}=$`
)

// Validate returns every fault of the document, each with its field path.
func (h *HostSpec) Validate() field.ErrorList {
	errs := validateMeta(h.Metadata, validation.IsDNS1123Subdomain)
	errs = append(errs, noGeneration(h.Metadata)...)
	return append(errs, h.Spec.validate(field.NewPath("spec"), h.Metadata.Name)...)
}

// Validate returns every fault of the document, each with its field path.
func (o *HostOverride) Validate() field.ErrorList {
	errs := validateMeta(o.Metadata, validation.IsDNS1123Subdomain)
	return append(errs, noGeneration(o.Metadata)...)
}

// Validate returns every fault of the document, each with its field path.
func (r *Remote) Validate() field.ErrorList {
	errs := validateMeta(r.Metadata, validation.IsDNS1123Label)
	if r.Metadata.Generation < 1 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "generation"), r.Metadata.Generation, "must be 1 or more"))
	}
	spec := field.NewPath("spec")
	if r.Spec.PublishedAt.IsZero() {
		errs = append(errs, field.Required(spec.Child("publishedAt"), ""))
	}
	archive := spec.Child("archive")
	errs = append(errs, match(archive.Child("digest"), r.Spec.Archive.Digest, digestPattern, "sha256: and 64 hexadecimal digits")...)
	if r.Spec.Archive.Size < 1 {
		errs = append(errs, field.Invalid(archive.Child("size"), r.Spec.Archive.Size, "must be 1 or more bytes"))
	}
	if r.Spec.Archive.NarHash != "" {
		errs = append(errs, match(archive.Child("narHash"), r.Spec.Archive.NarHash, narHashPattern, "sha256- and base64, as nix hash path prints it")...)
	}
	if c := r.Spec.Closures; c != nil {
		errs = append(errs, match(spec.Child("closures", "digest"), c.Digest, digestPattern, "sha256: and 64 hexadecimal digits")...)
	}
	return errs
}

// Validate returns every fault of the document, each with its field path.
func (s *HostStatus) Validate() field.ErrorList {
	return validateMeta(s.Metadata, validation.IsDNS1123Subdomain)
}

func validateMeta(m meta.ObjectMeta, nameRule func(string) []string) field.ErrorList {
	path := field.NewPath("metadata")
	var errs field.ErrorList
	if m.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, invalid(path.Child("name"), m.Name, nameRule(m.Name))...)
	}
	for _, key := range sorted(m.Labels) {
		at := path.Child("labels").Key(key)
		errs = append(errs, invalid(at, key, validation.IsQualifiedName(key))...)
		errs = append(errs, invalid(at, m.Labels[key], validation.IsValidLabelValue(m.Labels[key]))...)
	}
	for _, key := range sorted(m.Annotations) {
		errs = append(errs, invalid(path.Child("annotations").Key(key), key, validation.IsQualifiedName(strings.ToLower(key)))...)
	}
	return errs
}

func noGeneration(m meta.ObjectMeta) field.ErrorList {
	if m.Generation == 0 {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "generation"), "only a Remote has a generation")}
}

func (s HostSpecSpec) validate(path *field.Path, host string) field.ErrorList {
	var errs field.ErrorList
	if s.Remote == "" {
		errs = append(errs, field.Required(path.Child("remote"), "the name of a remote that npcnix push publishes"))
	} else {
		errs = append(errs, invalid(path.Child("remote"), s.Remote, validation.IsDNS1123Label(s.Remote))...)
	}
	if s.FlakeAttribute != "" {
		errs = append(errs, match(path.Child("flakeAttribute"), s.FlakeAttribute, flakeAttributePattern,
			"letters, digits, _ ' and -, at most 128, not beginning with ' or -")...)
	}
	errs = append(errs, oneOf(path.Child("origin"), s.Origin, OriginAuto, OriginFlake, OriginClosure)...)
	errs = append(errs, s.PollInterval.validate(path.Child("pollInterval"))...)
	errs = append(errs, s.MaintenanceWindow.validate(path.Child("maintenanceWindow"))...)
	errs = append(errs, s.RebuildPolicy.validate(path.Child("rebuildPolicy"), host)...)
	errs = append(errs, s.HealthChecks.validate(path.Child("healthChecks"))...)
	return append(errs, s.confirmable(path.Child("healthChecks"))...)
}

// confirmable refuses health checks that no system can pass in
// rebuildPolicy.timeouts.confirm: each would be taken back.
func (s HostSpecSpec) confirmable(path *field.Path) field.ErrorList {
	limit := value(s.RebuildPolicy).WithDefaults().Timeouts.Confirm.Duration
	checks := s.HealthChecks.WithDefaults()
	if least := checks.Settle.Duration; least >= limit {
		return field.ErrorList{field.Invalid(path.Child("settle"), meta.Short(least), "must be shorter than rebuildPolicy.timeouts.confirm, "+meta.Short(limit))}
	}
	var errs field.ErrorList
	for i, c := range checks.Checks {
		least := checks.Settle.Duration + time.Duration(*c.SuccessThreshold-1)*c.Interval.Duration
		if least >= limit {
			errs = append(errs, field.Invalid(path.Child("checks").Index(i).Child("successThreshold"), *c.SuccessThreshold,
				"takes "+meta.Short(least)+" with settle and interval, and must be done in rebuildPolicy.timeouts.confirm, "+meta.Short(limit)))
		}
	}
	return errs
}

func (p *PollInterval) validate(path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := between(path.Child("min"), p.Min, time.Second, 24*time.Hour)
	errs = append(errs, between(path.Child("max"), p.Max, time.Second, 24*time.Hour)...)
	filled := HostSpecSpec{PollInterval: p}.WithDefaults("").PollInterval
	if filled.Min.Duration > filled.Max.Duration {
		errs = append(errs, field.Invalid(path, filled.Min.String(), "min is longer than max, "+filled.Max.String()))
	}
	return errs
}

// The small rules that the rest is made of.

func invalid(path *field.Path, v string, faults []string) field.ErrorList {
	var errs field.ErrorList
	for _, f := range faults {
		errs = append(errs, field.Invalid(path, v, f))
	}
	return errs
}

func match(path *field.Path, v, pattern, want string) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(path, want)}
	}
	if !regexp.MustCompile(pattern).MatchString(v) {
		return field.ErrorList{field.Invalid(path, v, "must be "+want)}
	}
	return nil
}

func oneOf[T ~string](path *field.Path, v T, allowed ...T) field.ErrorList {
	if v == "" || slices.Contains(allowed, v) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, v, allowed)}
}

// between accepts an absent duration, and one from lo to hi.
func between(path *field.Path, d *meta.Duration, lo, hi time.Duration) field.ErrorList {
	if d == nil || (d.Duration >= lo && d.Duration <= hi) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, d.String(), "must be from "+meta.Short(lo)+" to "+meta.Short(hi))}
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
