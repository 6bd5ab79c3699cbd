package host

import (
	"errors"
	"syscall"
)

// isDiskFull reports whether a write failed for lack of space or quota.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
