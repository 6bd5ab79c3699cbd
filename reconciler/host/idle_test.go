package host_test

import "testing"

// maxIdleAllocations bounds what a look costs that finds nothing new. It is of
// this fake store and machine; what is measured is that nothing is decoded.
const maxIdleAllocations = 250

func TestIdleLookAllocatesLittle(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts for the whole process
	w := converged(t)
	w.spec(mondays)
	n := testing.AllocsPerRun(100, func() { w.pass() })
	t.Logf("%.0f allocations a look", n)
	if n > maxIdleAllocations {
		t.Errorf("an idle look makes %.0f allocations, at most %d are allowed", n, maxIdleAllocations)
	}
}
