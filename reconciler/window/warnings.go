package window

import (
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// Limits are how long what is gated may take, by rule 5 of a spec with defaults.
func Limits(s v1alpha1.HostSpecSpec) map[v1alpha1.Gate]time.Duration {
	t := s.RebuildPolicy.Timeouts
	return map[v1alpha1.Gate]time.Duration{
		v1alpha1.GateBuild:    t.Build.Duration,
		v1alpha1.GateActivate: t.Activate.Duration + t.Confirm.Duration,
		v1alpha1.GateReboot:   t.Reboot.Duration + t.Confirm.Duration,
	}
}

// longClosed is how long a window is not closed by intention.
const longClosed = 62 * 24 * time.Hour

// Need is how much of the window a step needs left to start.
type Need struct {
	Gate v1alpha1.Gate
	Time time.Duration
}

// Needs are the steps of a spec with defaults that wait for its window. A reboot
// is announced in the window, too, so that its delay counts.
func Needs(s v1alpha1.HostSpecSpec) (needs []Need) {
	if s.MaintenanceWindow == nil {
		return nil
	}
	limits := Limits(s)
	for _, gate := range s.MaintenanceWindow.Gates {
		need := Need{gate, limits[gate]}
		if gate == v1alpha1.GateReboot {
			if s.RebuildPolicy.Reboot.When == v1alpha1.RebootNever {
				continue
			}
			need.Time += s.RebuildPolicy.Reboot.Delay.Duration
		}
		needs = append(needs, need)
	}
	return needs
}

// Warnings says what is valid in a spec's window and suspension and will not do,
// from now on, what was meant: entries of allow that are too short for what
// waits for them, a window that does not open, a suspension that is over.
func Warnings(s v1alpha1.HostSpecSpec, now time.Time) (warnings []string) {
	if suspend := s.Suspend; suspend != nil && suspend.Until != nil && !suspend.Until.After(now) {
		warnings = append(warnings, fmt.Sprintf("spec.suspend.until is past (%s): it suspends nothing", suspend.Until.UTC().Format(time.RFC3339)))
	}
	s = s.WithDefaults("")
	w := s.MaintenanceWindow
	if w == nil {
		return warnings
	}
	if closed := longClosedWarning(New("", w).At(now), now); closed != "" {
		warnings = append(warnings, closed)
	}
	for i, e := range w.Allow {
		for _, need := range Needs(s) {
			if e.Duration != nil && e.Duration.Duration < need.Time+Slack {
				left := "no time"
				if e.Duration.Duration >= need.Time {
					left = "hardly any time"
				}
				warnings = append(warnings, fmt.Sprintf("spec.maintenanceWindow.allow[%d] (%s) is %s long, and %s may take %s by rebuildPolicy: this entry alone leaves %s to start it; lengthen it, or lower rebuildPolicy.timeouts",
					i, e.Name, meta.Short(e.Duration.Duration), need.Gate, meta.Short(need.Time), left))
			}
		}
	}
	return warnings
}

// longClosedWarning says for how long a window is closed that can hardly be meant
// to be, or "".
func longClosedWarning(j Judgement, now time.Time) string {
	switch {
	case j.State == Open || j.Reason == ReasonZoneUnknown:
		return ""
	case j.NextOpensAt.IsZero():
		return "spec.maintenanceWindow does not open within 370 days: what waits for it is never started"
	case j.NextOpensAt.Sub(now) > longClosed:
		return fmt.Sprintf("spec.maintenanceWindow does not open before %s: what waits for it is not started until then", j.NextOpensAt.UTC().Format(time.RFC3339))
	default:
		return ""
	}
}
