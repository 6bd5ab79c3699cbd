package rapidtest

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Main runs the tests with so many tries of each property, unless the command
// line says another number: the rare combinations matter, and a hundred tries
// miss them.
func Main(m *testing.M, checks int) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", strconv.Itoa(checks)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // it stands for a test's main
		}
	}
	os.Exit(m.Run()) //nolint:forbidigo // it stands for a test's main
}
