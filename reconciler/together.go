package reconciler

import "sync"

// Together runs functions at a time and waits for all of them. A panic of one
// becomes the caller's, so that it ends no more than the caller's own call.
func Together(functions ...func()) {
	panics := make(chan any, len(functions))
	var all sync.WaitGroup
	for _, f := range functions {
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panics <- p
				}
			}()
			f()
		})
	}
	all.Wait()
	select {
	case p := <-panics:
		panic(p)
	default:
	}
}
