#!/bin/sh
# The whole life of a cloud management gateway by cmdlets, as they are
# documented: import both app registrations, connect the site to the tenant,
# create the gateway with two instances, add the connection point, check, stop,
# start, scale, remove. automate.sh beside it is the same by noun and verb.
#
# Set these variables first (in the lab: opencmg lab --bare, then the file that it
# names): TENANT_NAME, TENANT_ID, ENVIRONMENT, SUBSCRIPTION_ID, REGION,
# SERVER_APP_NAME, SERVER_APP_ID, SERVER_APP_URI, SERVER_APP_SECRET_FILE,
# SERVER_APP_SECRET_EXPIRY, CLIENT_APP_NAME, CLIENT_APP_ID, SERVICE_CERT,
# SERVICE_CERT_PASSWORD_FILE, SERVICE_NAME, ROOT_CA, INTERMEDIATE_CA and
# MANAGEMENT_POINT. A shell takes $true for a variable of its own: quote it.
set -eu

# Part 2: Microsoft Entra ID.
opencmg Import-CMAADServerApplication -TenantName "$TENANT_NAME" -TenantId "$TENANT_ID" \
	-AppName "$SERVER_APP_NAME" -ClientId "$SERVER_APP_ID" -AppIdUri "$SERVER_APP_URI" \
	-SecretKeyFile "$SERVER_APP_SECRET_FILE" -SecretKeyExpiry "$SERVER_APP_SECRET_EXPIRY" \
	-AzureEnvironmentOption "$ENVIRONMENT"
opencmg Import-CMAADClientApplication -TenantId "$TENANT_ID" -AppName "$CLIENT_APP_NAME" -ClientId "$CLIENT_APP_ID"
server=$(opencmg Get-CMAADApplication -TenantName "$TENANT_NAME" -AppType ServerApplication -AppName "$SERVER_APP_NAME")
client=$(opencmg Get-CMAADApplication -TenantName "$TENANT_NAME" -AppType ClientApplication -AppName "$CLIENT_APP_NAME")
opencmg New-CMCloudManagementAzureService -Name "$TENANT_NAME" -Description "Cloud management" \
	-ServerApp "$server" -ClientApp "$client" -AzureEnvironmentOption "$ENVIRONMENT"

# Parts 1, 3 and 4: certificate, trusted CAs and the gateway. It is deployed when
# its state is 0.
opencmg New-CMCloudManagementGateway -ServiceCertPath "$SERVICE_CERT" -ServiceCertPasswordFile "$SERVICE_CERT_PASSWORD_FILE" \
	-EnvironmentSetting "$ENVIRONMENT" -SubscriptionId "$SUBSCRIPTION_ID" -Region "$REGION" -VMSSVMSize Lab -VMInstanceCount 2 \
	-CARootCert "$ROOT_CA=RootCA,$INTERMEDIATE_CA=IntermediateCA" -CheckClientCertRevocation '$true' -EnforceProtocol '$true' -Force
state=1
while [ "$state" != 0 ]; do
	state=$(opencmg Get-CMCloudManagementGateway -Name "$SERVICE_NAME" | sed 's/.*"State":\([0-9]*\).*/\1/')
	case $state in
	0) ;;
	1) sleep 1 ;;
	*) echo "the deployment failed: opencmg checklist says why" >&2 && exit 1 ;;
	esac
done

# The connection point. Its host joins once with a token that the site gives.
opencmg Add-CMCloudManagementGatewayConnectionPoint -CloudManagementGatewayName "$SERVICE_NAME" \
	-SiteSystemServerName cp01 -JoinTokenFile cp01.token
opencmg connection-point join --site-token-file cp01.token --name cp01 --dir cp01 ${CONNECTION_POINT_FLAGS-}
opencmg connection-point serve --config cp01/connection-point.yaml &
trap 'kill $!' EXIT
opencmg Set-CMManagementPoint -SiteSystemServerName "$MANAGEMENT_POINT" -EnableCloudGateway '$true'

# Check: everything that is there, as objects.
opencmg Get-CMCloudManagementGatewayConnectionPoint -SiteSystemServerName 'cp*'
opencmg Get-CMSiteRole -RoleName "SMS Management Point"

# Stop and start through the pipeline; what waits for the end says so.
opencmg Get-CMCloudManagementGateway -Name "$SERVICE_NAME" | opencmg Stop-CMCloudManagementGateway --wait
opencmg Get-CMCloudManagementGateway -Name "$SERVICE_NAME" | opencmg Start-CMCloudManagementGateway --wait

# Scale, by the old name of the parameter.
opencmg Set-CMCloudManagementGateway -Name "$SERVICE_NAME" -VMInstancesCount 3 --wait

# Remove, in the order in which nothing is left behind.
opencmg Remove-CMCloudManagementGatewayConnectionPoint -SiteSystemServerName cp01 -Force
opencmg Get-CMCloudManagementGateway -Name "$SERVICE_NAME" | opencmg Remove-CMCloudManagementGateway -Force --wait
opencmg Remove-CMAzureService -Name "$TENANT_NAME" -Force
