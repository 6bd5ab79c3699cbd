package host

import (
	"time"

	"github.com/npcnix/npcnix/apis/meta"
)

// maxTail is how much of a program's output a message quotes, in bytes.
const maxTail = 400

func newTime(t time.Time) meta.Time { return meta.NewTime(t) }
