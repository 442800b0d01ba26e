package console

import "slices"

// allViews are the pages. Each file of this package brings its own.
func (c *Console) allViews() []view {
	return slices.Concat(
		checklistViews(),
		gatewayViews(),
		operationViews(),
		azureServiceViews(),
		accountViews(),
		certificateViews(),
		pointViews(),
		roleViews(),
		analyzerViews(),
		explainViews(),
		logViews(c.cfg.Now),
		boundaryGroupViews(),
		recordViews(),
		dashboardViews(),
		clientViews(),
		clientOperationViews(),
		siteTokenViews(),
	)
}

// allActions are what forms do.
func (c *Console) allActions() []action {
	return slices.Concat(
		checklistActions(),
		gatewayActions(),
		azureServiceActions(),
		accountActions(),
		certificateActions(),
		pointActions(),
		roleActions(),
		analyzerActions(),
		boundaryGroupActions(),
		recordActions(),
		clientActions(),
		clientOperationActions(),
		siteTokenActions(),
	)
}

// allAnswers are what is neither.
func (c *Console) allAnswers() []rawAnswer {
	return slices.Concat(
		c.onceAnswers(certificateMakers(c), accountMakers(), joinMakers(c)),
		c.checkAnswers(),
		logAnswers(c),
		clientAnswers(),
	)
}
