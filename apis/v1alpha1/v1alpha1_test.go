package v1alpha1_test

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// validate decodes a HostSpec with that spec, and returns what is wrong.
func validate(spec string) error {
	doc := "apiVersion: npcnix.dev/v1alpha1\nkind: HostSpec\nmetadata: {name: web-1}\nspec: " + spec + "\n"
	_, err := codec.DecodeStrict[v1alpha1.HostSpec](codec.Document{Raw: []byte(doc)}, v1alpha1.KindHostSpec)
	return err
}

func TestValidSpecs(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{
		"{remote: prod}",
		`{remote: prod, flakeAttribute: "host_1'-x"}`,
		"{remote: prod, rebuildPolicy: {drift: {grace: 0s}}}",
		"{remote: prod, pollInterval: {min: 1s}}",
		"{remote: prod, suspend: {}}",
		"{remote: prod, maintenanceWindow: {timeZone: UTC}}",
		"{remote: prod, maintenanceWindow: {timeZone: America/Argentina/Buenos_Aires, deny: [{name: a, start: \"00:00\", duration: 5m}, {name: b, start: \"23:59\", duration: 168h}]}}",
		"{remote: prod, rebuildPolicy: {allowAgentRemoval: web-1, minFreeDisk: 0B}}",
		"{remote: prod, healthChecks: {settle: 0s}}",
	} {
		if err := validate(spec); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestInvalidSpecs(t *testing.T) {
	t.Parallel()
	window := func(w string) string { return "{remote: prod, maintenanceWindow: {timeZone: UTC, " + w + "}}" }
	entry := func(e string) string { return window("allow: [" + e + "]") }
	policy := func(p string) string { return "{remote: prod, rebuildPolicy: {" + p + "}}" }
	checks := func(c string) string { return "{remote: prod, healthChecks: {checks: [" + c + "]}}" }
	for spec, want := range map[string]string{
		"{}":                                     "spec.remote: Required value",
		"{remote: Prod}":                         "spec.remote: Invalid value",
		"{remote: a.b}":                          "spec.remote: Invalid value",
		"{remote: prod, flakeAttribute: \"-x\"}": "spec.flakeAttribute: Invalid value",
		"{remote: prod, flakeAttribute: \"" + strings.Repeat("x", 129) + "\"}": "spec.flakeAttribute: Invalid value",
		"{remote: prod, origin: Cloud}":                                        `spec.origin: Unsupported value: "Cloud": supported values: "Auto", "Flake", "Closure"`,
		"{remote: prod, pollInterval: {min: 0s}}":                              "spec.pollInterval.min: Invalid value",
		"{remote: prod, pollInterval: {min: 5m}}":                              "min is longer than max, 2m0s",
		policy("mode: Swap"):                                                   "spec.rebuildPolicy.mode: Unsupported value",
		policy("drift: {action: Ignore}"):                                      "spec.rebuildPolicy.drift.action: Unsupported value",
		policy("drift: {grace: -1s}"):                                          "must be from 0s to 168h",
		policy("reboot: {when: Sometimes}"):                                    "spec.rebuildPolicy.reboot.when: Unsupported value",
		policy("retry: {maxAttempts: 0}"):                                      "spec.rebuildPolicy.retry.maxAttempts: Invalid value: 0: must be from 1 to 1000",
		policy("retry: {minBackoff: 2h}"):                                      "minBackoff is longer than maxBackoff, 1h0m0s",
		policy("timeouts: {build: 0s}"):                                        "spec.rebuildPolicy.timeouts.build: Invalid value",
		policy("timeouts: {activate: 200h}"):                                   "must be from 1s to 168h",
		policy("rollback: {onFailure: Maybe}"):                                 "spec.rebuildPolicy.rollback.onFailure: Unsupported value",
		policy("rollback: {lastResort: Explode}"):                              "spec.rebuildPolicy.rollback.lastResort: Unsupported value",
		policy("diskFull: Panic"):                                              "spec.rebuildPolicy.diskFull: Unsupported value",
		policy("minFreeDisk: 2GB"):                                             "is not a size",
		policy("minFreeDisk: 99999999999GiB"):                                  "is too large",
		policy("retention: {generations: 0}"):                                  "spec.rebuildPolicy.retention.generations: Invalid value",
		policy("allowAgentRemoval: web-2"):                                     "must be the host's own name, web-1",
		"{remote: prod, maintenanceWindow: {}}":                                "spec.maintenanceWindow.timeZone: Required value",
		"{remote: prod, maintenanceWindow: {timeZone: Local}}":                 "must be an IANA name",
		"{remote: prod, maintenanceWindow: {timeZone: EST}}":                   "must be an IANA name",
		"{remote: prod, maintenanceWindow: {timeZone: \"+02:00\"}}":            "must be an IANA name",
		"{remote: prod, maintenanceWindow: {timeZone: Etc/GMT+5}}":             "must be an IANA name",
		"{remote: prod, maintenanceWindow: {timeZone: Europe/Atlantis}}":       "must be an IANA name",
		window("deny: [" + strings.Repeat("{}, ", 65) + "]"):                   "must have at most 64 items",
		window("allow: []"):                                                    "an empty list allows nothing",
		window("gates: []"):                                                    "an empty list gates nothing",
		window("gates: [Fetch]"):                                               "spec.maintenanceWindow.gates[0]: Unsupported value",
		window("splay: 200h"):                                                  "spec.maintenanceWindow.splay: Invalid value",
		entry("{start: \"22:00\", duration: 6h}"):                              "spec.maintenanceWindow.allow[0].name: Required value",
		entry("{name: a, start: \"22:00\", duration: 6h}, {name: a, start: \"22:00\", duration: 6h}"): "spec.maintenanceWindow.allow[1].name: Duplicate value",
		entry("{name: a, start: \"24:00\", duration: 6h}"):                                            "spec.maintenanceWindow.allow[0].start: Invalid value",
		entry("{name: a, start: \"2:00\", duration: 6h}"):                                             "spec.maintenanceWindow.allow[0].start: Invalid value",
		entry("{name: a, start: \"22:00\"}"):                                                          "spec.maintenanceWindow.allow[0].duration: Required value",
		entry("{name: a, duration: 6h}"):                                                              "spec.maintenanceWindow.allow[0].start: Required value",
		entry("{name: a, start: \"22:00\", duration: 4m}"):                                            "must be from 5m to 168h",
		entry("{name: a, days: [Monday], start: \"22:00\", duration: 6h}"):                            "spec.maintenanceWindow.allow[0].days[0]: Unsupported value",
		entry("{name: a, days: [Mon, Mon], start: \"22:00\", duration: 6h}"):                          "spec.maintenanceWindow.allow[0].days[1]: Duplicate value",
		entry("{name: a, days: [], start: \"22:00\", duration: 6h}"):                                  "an empty list is no day",
		entry("{name: a, days: [Mon], from: \"2026-01-01T00:00:00\"}"):                                "not both",
		entry("{name: a, from: \"2026-01-01T00:00:00\"}"):                                             "spec.maintenanceWindow.allow[0].until: Required value",
		entry("{name: a, from: \"2026-01-01T00:00:00Z\", until: \"2027-01-01T00:00:00\"}"):            "without offset",
		entry("{name: a, from: \"2027-01-01T00:00:00\", until: \"2026-01-01T00:00:00\"}"):             "must be after from",
		"{remote: prod, healthChecks: {checks: []}}":                                                  "an empty list checks nothing",
		checks("{name: a}"): "needs exactly one of systemd, http, tcp and exec",
		checks("{name: a, tcp: {address: \"x:1\"}, exec: {check: b}}"): "needs exactly one of",
		checks("{name: a, systemd: {require: Luck}}"):                  "spec.healthChecks.checks[0].systemd.require: Unsupported value",
		checks("{name: a, http: {url: \"ftp://x\"}}"):                  "must be an http or https URL",
		checks("{name: a, tcp: {address: localhost}}"):                 "must be host:port",
		checks("{name: a, exec: {check: \"rm -rf\"}}"):                 "spec.healthChecks.checks[0].exec.check: Invalid value",
		checks("{name: a, exec: {check: b}, successThreshold: 0}"):     "spec.healthChecks.checks[0].successThreshold: Invalid value",
		checks("{name: a, exec: {check: b}, timeout: 0s}"):             "spec.healthChecks.checks[0].timeout: Invalid value",
	} {
		if err := validate(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", spec, err, want)
		}
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	got := v1alpha1.HostSpecSpec{Remote: "prod"}.WithDefaults("web-1")
	p := got.RebuildPolicy
	for what, ok := range map[string]bool{
		"flakeAttribute": got.FlakeAttribute == "web-1",
		"origin":         got.Origin == v1alpha1.OriginAuto,
		"pollInterval":   got.PollInterval.Min.Duration == 5*time.Second && got.PollInterval.Max.Duration == 120*time.Second,
		"absent":         got.Suspend == nil && got.MaintenanceWindow == nil && got.HealthChecks == nil,
		"mode":           p.Mode == v1alpha1.ModeSwitch,
		"drift":          p.Drift.Action == v1alpha1.DriftCorrect && p.Drift.Grace.Duration == 15*time.Minute,
		"reboot":         p.Reboot.When == v1alpha1.RebootNever && p.Reboot.Delay.Duration == time.Minute && p.Reboot.Sessions.Postpone.Duration == time.Hour,
		"retry":          *p.Retry.MaxAttempts == 5 && p.Retry.MinBackoff.Duration == 30*time.Second && p.Retry.MaxBackoff.Duration == time.Hour,
		"timeouts": p.Timeouts.Build.Duration == 2*time.Hour && p.Timeouts.Activate.Duration == 10*time.Minute &&
			p.Timeouts.Confirm.Duration == 5*time.Minute && p.Timeouts.Reboot.Duration == 15*time.Minute,
		"rollback":    p.Rollback.OnFailure == v1alpha1.RollbackRollback && p.Rollback.OnStoreLost == v1alpha1.RollbackRollback && p.Rollback.LastResort == v1alpha1.LastResortNone,
		"diskFull":    p.DiskFull == v1alpha1.DiskFullReport,
		"minFreeDisk": *p.MinFreeDisk == 2*meta.Gibibyte,
		"retention":   *p.Retention.Generations == 10,
	} {
		if !ok {
			t.Errorf("%s is not as documented: %+v", what, got)
		}
	}
}

func TestExplicitZeroIsAValue(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.HostSpecSpec{RebuildPolicy: &v1alpha1.RebuildPolicy{Drift: &v1alpha1.DriftPolicy{Grace: &meta.Duration{}}}}
	if got := spec.WithDefaults("x").RebuildPolicy.Drift.Grace.Duration; got != 0 {
		t.Errorf("grace is %s", got)
	}
	if spec.RebuildPolicy.Retry != nil {
		t.Error("filling in defaults changed the spec")
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	commit := strings.Repeat("0123456789abcdef", 3)[:40]
	for full, want := range map[string]string{
		commit: "0123456789ab", v1alpha1.FullRevision(commit, true): "0123456789ab-dirty", "": "", "short": "short",
	} {
		if got := v1alpha1.ShortRevision(full); got != want {
			t.Errorf("%s is %s, want %s", full, got, want)
		}
	}
	var none *v1alpha1.Source
	if none.FullRevision() != "" {
		t.Error("no source has a revision")
	}
}
