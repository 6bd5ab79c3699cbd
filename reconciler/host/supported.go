package host

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// notSupported lists the fields of a valid spec that ask for what this agent
// cannot do yet. They are refused as a whole: a window that is ignored would be
// a promise broken.
func notSupported(s v1alpha1.HostSpecSpec) []string {
	var fields []string
	refuse := func(bad bool, field string) {
		if bad {
			fields = append(fields, "spec."+field)
		}
	}
	refuse(s.MaintenanceWindow != nil, "maintenanceWindow")
	refuse(s.Origin == v1alpha1.OriginClosure, "origin: Closure")

	got := v1alpha1.RebuildPolicy{}
	if s.RebuildPolicy != nil {
		got = *s.RebuildPolicy
	}
	got = got.WithDefaults()
	def := v1alpha1.RebuildPolicy{}.WithDefaults()
	differs := func(a, b any, field string) { refuse(!reflect.DeepEqual(a, b), "rebuildPolicy."+field) }
	differs(got.Reboot, def.Reboot, "reboot")
	differs(got.DiskFull, def.DiskFull, "diskFull")
	differs(got.MinFreeDisk, def.MinFreeDisk, "minFreeDisk")
	differs(got.Retention, def.Retention, "retention")
	differs(got.Timeouts.Reboot, def.Timeouts.Reboot, "timeouts.reboot")
	return fields
}

func notSupportedMessage(fields []string) string {
	return fmt.Sprintf("This version of npcnix does not support: %s. Nothing is changed on the host until they are removed or the agent is newer.",
		strings.Join(fields, ", "))
}
