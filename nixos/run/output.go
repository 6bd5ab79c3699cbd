package run

import "sync"

// head keeps the beginning of an output and says when it is longer.
type head struct {
	limit int

	mu   sync.Mutex
	data []byte
	full chan struct{}
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.limit - len(h.data)
	h.data = append(h.data, p[:min(len(p), room)]...)
	if len(p) > room {
		select {
		case <-h.channel():
		default:
			close(h.channel())
		}
	}
	return len(p), nil
}

func (h *head) channel() chan struct{} {
	if h.full == nil {
		h.full = make(chan struct{})
	}
	return h.full
}

func (h *head) overflow() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.channel()
}

func (h *head) overflowed() bool {
	select {
	case <-h.overflow():
		return true
	default:
		return false
	}
}

func (h *head) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.data
}

// tail keeps the end of an output.
type tail struct {
	limit int

	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if len(t.data) > 2*t.limit {
		t.data = append([]byte(nil), t.data[len(t.data)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.data[max(0, len(t.data)-t.limit):]
}
