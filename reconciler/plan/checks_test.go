package plan_test

import (
	"testing"

	"github.com/npcnix/npcnix/tools/rapidtest"
)

func TestMain(m *testing.M) { rapidtest.Main(m, 50000) }
