package host

import (
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

// maxTail is how much of a program's output a message quotes, in bytes.
const maxTail = 400

// maxWhy is how much of a message says why something failed, in bytes: what
// comes of that follows, and is not to be cut off.
const maxWhy = meta.MaxMessage - 300

// told is a sentence about an error: what does not work, and why.
func told(what string, err error) string { return transaction.Sentence(what + ": " + err.Error()) }

func newTime(t time.Time) meta.Time { return meta.NewTime(t) }
