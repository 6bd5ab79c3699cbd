package window

import (
	"fmt"
	"time"

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

// Warnings says which entries of a spec's allow list are too short for what
// waits for them: it is never started in those.
func Warnings(s v1alpha1.HostSpecSpec) (warnings []string) {
	s = s.WithDefaults("")
	w := s.MaintenanceWindow
	if w == nil {
		return nil
	}
	limits := Limits(s)
	limits[v1alpha1.GateReboot] += s.RebuildPolicy.Reboot.Delay.Duration // it is announced in the window, too
	for i, e := range w.Allow {
		for _, gate := range w.Gates {
			if gate == v1alpha1.GateReboot && s.RebuildPolicy.Reboot.When == v1alpha1.RebootNever {
				continue
			}
			if e.Duration != nil && e.Duration.Duration < limits[gate]+Slack {
				warnings = append(warnings, fmt.Sprintf("spec.maintenanceWindow.allow[%d] (%s) is %s long, and %s may take %s by rebuildPolicy: this entry alone leaves no time to start it",
					i, e.Name, e.Duration.Duration, gate, limits[gate]))
			}
		}
	}
	return warnings
}
