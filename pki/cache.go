package pki

import "sync"

// A boundedCache remembers at least the size most recently put entries and at
// most twice as many. It keeps two generations: when the younger is full it
// becomes the older one, and the older one is forgotten; what is used meanwhile
// moves to the younger. It is safe for concurrent use.
type boundedCache[K comparable, V any] struct {
	size int

	mu         sync.RWMutex
	young, old map[K]V
}

func newBoundedCache[K comparable, V any](size int) *boundedCache[K, V] {
	return &boundedCache[K, V]{size: size, young: map[K]V{}}
}

func (c *boundedCache[K, V]) get(k K) (V, bool) {
	c.mu.RLock()
	v, ok := c.young[k]
	if ok {
		c.mu.RUnlock()
		return v, true
	}
	v, ok = c.old[k]
	c.mu.RUnlock()
	if ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *boundedCache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.size {
		if _, there := c.young[k]; !there {
			c.old, c.young = c.young, map[K]V{}
		}
	}
	c.young[k] = v
}

func (c *boundedCache[K, V]) delete(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, k)
	delete(c.old, k)
}

func (c *boundedCache[K, V]) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}
