package window_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
)

// What is valid in a spec and will not do what was meant.
func TestWarnings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	lasting := func(d time.Duration) *meta.Duration { return &meta.Duration{Duration: d} }
	entry := func(name, start string, d time.Duration) []v1alpha1.WindowEntry {
		return []v1alpha1.WindowEntry{{Name: name, Start: start, Duration: lasting(d)}}
	}
	for want, w := range map[string]*v1alpha1.MaintenanceWindow{
		"": {TimeZone: "UTC", Allow: entry("nights", "22:00", 6*time.Hour)},
		"allow[0] (brief) is 10m long, and Activate may take 15m by rebuildPolicy: this entry alone leaves no time to start it": {TimeZone: "UTC", Allow: entry("brief", "22:00", 10*time.Minute)},
		"allow[0] (exact) is 15m long, and Activate may take 15m by rebuildPolicy: this entry alone leaves hardly any time":     {TimeZone: "UTC", Allow: entry("exact", "22:00", 15*time.Minute)},
		"does not open within 370 days: what waits for it is never started":                                                     {TimeZone: "UTC", Deny: entry("days", "00:00", 24*time.Hour)},
		"does not open before 2027-10-31T22:00:00Z: what waits for it is not started until then": { // a day of 25 hours
			TimeZone: "Europe/Berlin", Allow: entry("nights", "22:00", 6*time.Hour), Deny: entry("days", "00:00", 24*time.Hour),
		},
	} {
		spec := v1alpha1.HostSpecSpec{Remote: "prod", MaintenanceWindow: w}
		got := window.Warnings(spec, now)
		if want == "" && len(got) == 0 {
			continue
		}
		if want == "" || !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("warnings %q, want %q", got, want)
		}
	}
}
