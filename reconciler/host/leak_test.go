package host_test

import (
	"testing"

	"github.com/npcnix/npcnix/tools/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(reasonsSaid{m}) }
