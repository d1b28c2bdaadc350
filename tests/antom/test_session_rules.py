"""Rules of the reference for a trip, a card, the hosted page and what the buyer may choose from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from antom.session_requests import CARD_REQUEST, NOW, VISA, body_of, faults_in, ordered, with_method
from antom_payments.money import Money
from antom_payments.session import (
    Address,
    AvailablePaymentMethod,
    BrowserInfo,
    Buyer,
    CardMetadata,
    CreditPayPlan,
    CustomizedInfo,
    Declaration,
    DeliveryEstimate,
    DeliveryEstimateInfo,
    Env,
    Gaming,
    Leg,
    Lodging,
    Merchant,
    MpiData,
    Passenger,
    PaymentMethod,
    PaymentMethodTypeItem,
    Quote,
    SessionRequest,
    Shipping,
    Transit,
    UserName,
)

ADA = UserName("Ada", last_name="Lovelace")
QUOTE = Quote(quote_currency_pair="USD/SGD", quote_price="1.3475")
HOSTED = replace(CARD_REQUEST, payment_method=None, product_scene="CHECKOUT_PAYMENT")


def a_leg(**leg: object) -> SessionRequest:
    return ordered(transit=Transit("TRAIN", (Leg(), replace(Leg(), **leg))))


def a_card(**card: object) -> SessionRequest:
    return with_method(card=replace(CardMetadata(), **card))


def a_plan(**plan: object) -> SessionRequest:
    return replace(CARD_REQUEST, credit_pay_plan=replace(CreditPayPlan(3), **plan))


def a_quote(**quote: object) -> SessionRequest:
    return replace(CARD_REQUEST, payment_quote=replace(QUOTE, **quote))


def a_choice(*items: PaymentMethodTypeItem) -> SessionRequest:
    return replace(CARD_REQUEST, available_payment_method=AvailablePaymentMethod(items))


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        (ordered(transit=Transit("SHIP")), "order.transit.transit_type", "FLIGHT or TRAIN or"),
        (ordered(transit=Transit(legs=(Leg(),) * 11)), "order.transit.legs", "at most 10"),
        (
            ordered(transit=Transit(passengers=(Passenger(ADA),) * 101)),
            "order.transit.passengers",
            "at most 100",
        ),
        (
            ordered(transit=Transit(passengers=(Passenger(UserName("Ada")),))),
            "order.transit.passengers[0].passenger_name.last_name",
            "is required",
        ),
        (a_leg(carrier_name="x" * 129), "order.transit.legs[1].carrier_name", "at most 128"),
        (a_leg(carrier_no="x" * 65), "order.transit.legs[1].carrier_no", "at most 64"),
        (a_leg(class_type="FIRST"), "order.transit.legs[1].class_type", "FIRSTLEVEL or"),
        (
            a_leg(departure_airport_code="x" * 9),
            "order.transit.legs[1].departure_airport_code",
            "at most 8",
        ),
        (
            a_leg(arrival_airport_code="x" * 9),
            "order.transit.legs[1].arrival_airport_code",
            "at most 8",
        ),
        (
            a_leg(passenger_name_record="x" * 33),
            "order.transit.legs[1].passenger_name_record",
            "at most 32",
        ),
        (
            a_leg(departure_address=Address("Sg")),
            "order.transit.legs[1].departure_address.region",
            "ISO 3166-1",
        ),
        (ordered(lodging=Lodging("x" * 129)), "order.lodging.hotel_name", "at most 128"),
        (ordered(lodging=Lodging(number_of_nights=-1)), "order.lodging.number_of_nights", "1"),
        (ordered(lodging=Lodging(number_of_rooms=-1)), "order.lodging.number_of_rooms", "1"),
        (ordered(lodging=Lodging(guest_names=(ADA,) * 101)), "order.lodging.guest_names", "100"),
        (ordered(gaming=Gaming("x" * 129)), "order.gaming.game_name", "at most 128"),
        (ordered(gaming=Gaming(topped_up_user="x" * 129)), "order.gaming.topped_up_user", "128"),
        (ordered(gaming=Gaming(topped_up_email="x" * 65)), "order.gaming.topped_up_email", "64"),
        (
            ordered(gaming=Gaming(topped_up_phone_no="x" * 33)),
            "order.gaming.topped_up_phone_no",
            "at most 32",
        ),
        (
            ordered(merchant=Merchant(merchant_type="SHOP")),
            "order.merchant.merchant_type",
            "INDIVIDUAL or ENTERPRISE",
        ),
        (ordered(env=Env("WEB", "IOS")), "order.env.os_type", "not be set for WEB"),
        (ordered(order_discount_amount=Money("SGD", 0)), "order.order_discount_amount", "zero"),
        (ordered(sub_total_order_amount=Money("S", 1)), "order.sub_total_order_amount", "ISO"),
        (ordered(extend_info="{"), "order.extend_info", "JSON"),
        (ordered(extend_info="[" * 2000), "order.extend_info", "JSON"),
        (ordered(extend_info=f'"{"x" * 2048}"'), "order.extend_info", "at most 2048"),
        (ordered(extend_info=f'{{"a": "{VISA}"}}'), "order.extend_info", "card number"),
        (
            ordered(declaration=Declaration("BUS")),
            "order.declaration.declaration_biz_scene",
            "AIRLINE or HOTEL",
        ),
        (
            ordered(buyer=Buyer("b", successful_order_count=-1)),
            "order.buyer.successful_order_count",
            "at least 0",
        ),
        (
            ordered(buyer=Buyer("b", buyer_phone_no_contry_code="+1234567")),
            "order.buyer.buyer_phone_no_contry_code",
            "at most 7",
        ),
        (
            with_method(payment_method_type="STCPAY"),
            "order.buyer.buyer_phone_no_contry_code",
            "required for STCPAY",
        ),
        (
            ordered(
                shipping=Shipping(
                    delivery_estimate=DeliveryEstimate(maximum=DeliveryEstimateInfo("DAY"))
                )
            ),
            "order.shipping.delivery_estimate.maximum.value",
            "at least 1",
        ),
        (
            ordered(shipping=Shipping(shipping_fee_id="x" * 65)),
            "order.shipping.shipping_fee_id",
            "at most 64",
        ),
        (
            ordered(shipping=Shipping(shipping_description="x" * 65)),
            "order.shipping.shipping_description",
            "at most 64",
        ),
        (a_card(recurring_type="DAILY"), "payment_method.card.recurring_type", "SCHEDULED or"),
        (
            a_card(network_transaction_id="x" * 101),
            "payment_method.card.network_transaction_id",
            "at most 100",
        ),
        (
            a_card(mpi_data=MpiData(eci="05")),
            "payment_method.card.mpi_data.three_ds_version",
            "is required",
        ),
        (
            a_card(mpi_data=MpiData("2.2.0")),
            "payment_method.card.mpi_data.eci",
            "is required",
        ),
        (
            a_card(billing_address=Address()),
            "payment_method.card.billing_address.region",
            "is required",
        ),
        (a_card(payer_email="x" * 65), "payment_method.card.payer_email", "at most 64"),
        (a_card(cpf="1" * 12), "payment_method.card.cpf", "at most 11"),
        (
            a_card(cardholder_name=UserName(VISA, last_name="L")),
            "payment_method.card.cardholder_name.first_name",
            "card number",
        ),
        (with_method(funding="GIFT"), "payment_method.funding", "CREDIT or DEBIT"),
        (
            replace(
                CARD_REQUEST,
                saved_payment_methods=(PaymentMethod("CARD"), PaymentMethod("X", VISA)),
            ),
            "saved_payment_methods[1].payment_method_id",
            "never a card number",
        ),
        (
            replace(CARD_REQUEST, saved_payment_methods=(PaymentMethod("CARD"),) * 101),
            "saved_payment_methods",
            "at most 100",
        ),
        (
            replace(CARD_REQUEST, env=Env(browser_info=BrowserInfo(language="x" * 33))),
            "env.browser_info.language",
            "at most 32",
        ),
        (replace(CARD_REQUEST, env=Env(device_brand="x" * 65)), "env.device_brand", "at most 64"),
        (replace(CARD_REQUEST, env=Env(device_model="x" * 129)), "env.device_model", "128"),
        (replace(CARD_REQUEST, env=Env(screen_width=-1)), "env.screen_width", "at least 1"),
        (
            replace(CARD_REQUEST, env=Env(time_zone_offset=-841)),
            "env.time_zone_offset",
            "-840 to 720",
        ),
        (replace(HOSTED, product_scene=""), "payment_method", "unless product_scene is CHECKOUT"),
        (replace(HOSTED, product_scene="ELEMENT_PAYMENT"), "payment_method", "is required unless"),
        (replace(CARD_REQUEST, product_scene="EASY_PAY"), "product_scene", "CHECKOUT_PAYMENT or"),
        (replace(CARD_REQUEST, payment_expiry_time=NOW), "payment_expiry_time", "48 hours"),
        (
            replace(CARD_REQUEST, payment_expiry_time=NOW + timedelta(hours=48, seconds=1)),
            "payment_expiry_time",
            "within the next 48 hours",
        ),
        (a_plan(installment_num=0), "credit_pay_plan.installment_num", "must be 2 to 12"),
        (a_plan(installment_num=13), "credit_pay_plan.installment_num", "must be 2 to 12"),
        (a_plan(credit_pay_fee_type="FIXED"), "credit_pay_plan.credit_pay_fee_type", "PERCENTAGE"),
        (a_plan(fee_percentage=101), "credit_pay_plan.fee_percentage", "0 to 100"),
        (
            replace(CARD_REQUEST, allowed_payment_method_regions=("SG", "EUROPE")),
            "allowed_payment_method_regions[1]",
            "two capital letters",
        ),
        (
            replace(CARD_REQUEST, allowed_payment_method_regions=("",)),
            "allowed_payment_method_regions[0]",
            "is required",
        ),
        (
            replace(CARD_REQUEST, allowed_payment_method_regions=("SG",) * 101),
            "allowed_payment_method_regions",
            "at most 100",
        ),
        (
            a_choice(PaymentMethodTypeItem()),
            "available_payment_method.payment_method_type_list[0].payment_method_type",
            "is required",
        ),
        (
            a_choice(PaymentMethodTypeItem("CARD", -1)),
            "available_payment_method.payment_method_type_list[0].payment_method_order",
            "at least 1",
        ),
        (a_quote(quote_currency_pair=""), "payment_quote.quote_currency_pair", "is required"),
        (a_quote(quote_currency_pair="USDSGD"), "payment_quote.quote_currency_pair", "slash"),
        (a_quote(quote_price="0.00"), "payment_quote.quote_price", "greater than zero"),
        (a_quote(quote_price="1e3"), "payment_quote.quote_price", "decimal number"),
        (replace(CARD_REQUEST, processing_amount=Money("USD", 0)), "processing_amount", "zero"),
        (replace(CARD_REQUEST, antom_metadata="x"), "antom_metadata", "JSON"),
        (
            replace(CARD_REQUEST, customized_info=CustomizedInfo(customized_field3="x" * 257)),
            "customized_info.customized_field3",
            "at most 256",
        ),
        (replace(CARD_REQUEST, merchant_account_id="x" * 33), "merchant_account_id", "at most 32"),
    ],
)
def test_rules_of_the_reference_are_held_by_our_field_path(
    request_: SessionRequest, field: str, said: str
) -> None:
    violations = faults_in(request_)
    [(found, description)] = violations.items()
    assert found in {field, f"{field}.minor_units", f"{field}.currency_code"}
    assert said in description


@pytest.mark.parametrize("locale", ["en_US", "automatic", ""])
def test_the_locale_may_be_the_browsers(locale: str) -> None:
    """`automatic` is longer than the eight characters that a locale may have (antom-api 3.1)."""
    assert body_of(replace(CARD_REQUEST, locale=locale)).get("locale", "") == locale


def test_zero_is_said_only_where_it_means_something() -> None:
    request = replace(
        ordered(buyer=Buyer("b", successful_order_count=0)),
        env=Env(time_zone_offset=0),
        credit_pay_plan=CreditPayPlan(2, fee_percentage=0),
    )
    sent = body_of(request)
    assert sent["order"]["buyer"]["successfulOrderCount"] == "0"
    assert sent["env"] == {"timeZoneOffset": "0"}
    assert sent["creditPayPlan"] == {"installmentNum": 2, "feePercentage": "0"}


def test_what_is_personal_or_secret_is_in_no_repr() -> None:
    request = replace(
        ordered(
            buyer=Buyer("b", ADA, "+6561234567", "ada@example.com"),
            transit=Transit(legs=(Leg(passenger_name_record="SECRET1"),)),
            extend_info='{"SECRET2": 1}',
        ),
        payment_method=PaymentMethod(
            "CARD",
            "SECRET3",
            CardMetadata(cpf="SECRET4", mpi_data=MpiData(cavv="SECRET5")),
            extend_info='"SECRET6"',
        ),
        env=Env(client_ip="203.0.113.7"),
        antom_metadata='"SECRET7"',
    )
    shown = repr(request)
    assert all(text not in shown for text in ("Ada", "ada@", "6123", "203.0", "SECRET"))
