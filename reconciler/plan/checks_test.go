package plan_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// checks is how often each property is tried: the rare combinations matter, and
// a hundred tries miss them.
const checks = "20000"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", checks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
