package main

import (
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// A host has come to something once nothing goes on any more that its request
// brought about.
func TestCameToSomething(t *testing.T) {
	t.Parallel()
	asked := new(meta.NewTime(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)))
	for reason, c := range map[string]struct {
		reconciling meta.ConditionStatus
		why         string
		want        bool
	}{
		v1alpha1.ReasonUpToDate:         {meta.False, v1alpha1.ReasonUpToDate, true},
		v1alpha1.ReasonQuarantined:      {meta.False, v1alpha1.ReasonQuarantined, true},
		v1alpha1.ReasonBuildFailed:      {meta.True, v1alpha1.ReasonRetrying, true},
		v1alpha1.ReasonWaitingForWindow: {meta.False, v1alpha1.ReasonWaitingForWindow, true},
		v1alpha1.ReasonProgressing:      {meta.True, v1alpha1.ReasonProgressing, false},
		v1alpha1.ReasonRebooting:        {meta.False, v1alpha1.ReasonRebooting, false},
		v1alpha1.ReasonSwitchActive:     {meta.False, v1alpha1.ReasonSwitchActive, false},
	} {
		h := fleetHost{view: v1alpha1.Host{Status: &v1alpha1.HostStatusStatus{
			Handled: &v1alpha1.Handled{ReconcileRequestedAt: asked},
			Conditions: []meta.Condition{
				{Type: v1alpha1.ConditionReady, Status: meta.False, Reason: reason}, {Type: v1alpha1.ConditionReconciling, Status: c.reconciling, Reason: c.why},
			},
		}}}
		if got := h.cameToSomething(asked); got != c.want {
			t.Errorf("%s: %t", reason, got)
		}
		if h.cameToSomething(new(meta.NewTime(asked.Add(time.Second)))) {
			t.Errorf("%s: came to something that it has not seen", reason)
		}
	}
}
