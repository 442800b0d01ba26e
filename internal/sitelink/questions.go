package sitelink

import (
	"context"
	"sync"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

const (
	// maxAnswering bounds the questions that are answered at the same time.
	// More wait for the next look at the documents, or are nobody's any more.
	maxAnswering = 4
	answerTime   = 15 * time.Second
)

// questions are those of the site that are known here. One goroutine owns seen.
type questions struct {
	seen map[string]bool // of those that the site still asks
	turn chan struct{}   // one for each that is being answered
	wg   sync.WaitGroup
}

// answer answers what was not asked before, in the background.
func (l *Link) answer(ctx context.Context, asked []adminservice.SystemQuestion) {
	q := &l.questions
	if q.turn == nil {
		q.turn = make(chan struct{}, maxAnswering)
	}
	seen := map[string]bool{}
	for _, a := range asked[:min(len(asked), adminservice.MaxQuestions)] {
		if l.cfg.Answer == nil || !answerable(l.cfg.Kind, a.Kind) {
			continue // of a newer site
		}
		seen[a.ID] = true
		if q.seen[a.ID] {
			continue
		}
		q.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			select {
			case q.turn <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-q.turn }()
			reply := l.cfg.Answer(ctx, a)
			reply.Question = a.ID
			// An answer that came too late is an error of no interest.
			if err := l.client.Answer(ctx, &reply); err != nil && ctx.Err() == nil {
				l.log.Debug("an answer did not reach the site", "question", a.Kind, "err", err)
			}
		})
	}
	q.seen = seen
}

// answerable reports whether a system of this kind knows this kind of question.
func answerable(system, kind string) bool {
	switch kind {
	case adminservice.QuestionExplain:
		return true
	case adminservice.QuestionOnline, adminservice.QuestionWake:
		return system == adminservice.SystemManagementPoint
	}
	return false
}
