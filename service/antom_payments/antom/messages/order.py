"""Order, buyer, goods and shipping: Antom's fields and their limits (antom-api 3.10)."""

from __future__ import annotations

from typing import Any

from antom_payments.antom.messages.checks import Checks
from antom_payments.antom.messages.shape import amount_fields, said, time_text
from antom_payments.session import Address, Buyer, Goods, Order, Shipping, UserName

MAX_GOODS = 100


def order_fields(order: Order) -> dict[str, Any]:
    """Antom's `order`."""
    buyer, shipping = order.buyer or Buyer(), order.shipping or Shipping()
    return said(
        referenceOrderId=order.reference_order_id,
        orderDescription=order.order_description,
        orderAmount=amount_fields(order.order_amount),
        buyer=said(
            referenceBuyerId=buyer.reference_buyer_id,
            buyerName=_name_fields(buyer.buyer_name),
            buyerPhoneNo=buyer.buyer_phone_no,
            buyerEmail=buyer.buyer_email,
            buyerRegistrationTime=time_text(buyer.buyer_registration_time),
        ),
        goods=[_goods_fields(goods) for goods in order.goods],
        shipping=said(
            shippingName=_name_fields(shipping.shipping_name),
            shippingAddress=_address_fields(shipping.shipping_address),
            shippingCarrier=shipping.shipping_carrier,
            shippingPhoneNo=shipping.shipping_phone_no,
            shipToEmail=shipping.ship_to_email,
        ),
    )


def check_order(order: Order, checks: Checks) -> None:
    """Note in ``checks`` what Antom would refuse about ``order``."""
    checks.identifier("order.reference_order_id", order.reference_order_id, required=True)
    checks.without_chinese("order.reference_order_id", order.reference_order_id)
    description = "order.order_description"
    checks.text(description, order.order_description, 256, required=True, prose=True)
    checks.without_chinese(description, order.order_description)
    if order.order_amount is None:
        checks.fail("order.order_amount", "is required")
    checks.money("order.order_amount", order.order_amount)
    if order.buyer is not None:
        _check_buyer(order.buyer, checks)
    if len(order.goods) > MAX_GOODS:
        checks.fail("order.goods", f"must be at most {MAX_GOODS}")
    for index, goods in enumerate(order.goods[:MAX_GOODS]):
        _check_goods(f"order.goods[{index}]", goods, checks)
    if order.shipping is not None:
        _check_shipping(order.shipping, checks)


def _goods_fields(goods: Goods) -> dict[str, Any]:
    return said(
        referenceGoodsId=goods.reference_goods_id,
        goodsName=goods.goods_name,
        goodsCategory=goods.goods_category,
        goodsUnitAmount=amount_fields(goods.goods_unit_amount),
        # Text, as the OpenAPI files have it: scalars are sent as strings (antom-api 2).
        goodsQuantity=str(goods.goods_quantity) if goods.goods_quantity else "",
        goodsUrl=goods.goods_url,
        deliveryMethodType=goods.delivery_method_type,
    )


def _name_fields(name: UserName | None) -> dict[str, Any]:
    if name is None:
        return {}
    return said(
        firstName=name.first_name,
        middleName=name.middle_name,
        lastName=name.last_name,
        fullName=name.full_name,
    )


def _address_fields(address: Address | None) -> dict[str, Any]:
    if address is None:
        return {}
    return said(
        region=address.region,
        state=address.state,
        city=address.city,
        address1=address.address1,
        address2=address.address2,
        zipCode=address.zip_code,
    )


def _check_buyer(buyer: Buyer, checks: Checks) -> None:
    path = "order.buyer"
    checks.text(f"{path}.reference_buyer_id", buyer.reference_buyer_id, 64)
    _check_name(f"{path}.buyer_name", buyer.buyer_name, checks)
    checks.text(f"{path}.buyer_phone_no", buyer.buyer_phone_no, 24)
    checks.text(f"{path}.buyer_email", buyer.buyer_email, 64)


def _check_goods(path: str, goods: Goods, checks: Checks) -> None:
    reference_goods_id = f"{path}.reference_goods_id"
    checks.text(reference_goods_id, goods.reference_goods_id, 64, required=True)
    checks.without_chinese(reference_goods_id, goods.reference_goods_id)
    checks.text(f"{path}.goods_name", goods.goods_name, 256, required=True, prose=True)
    checks.without_chinese(f"{path}.goods_name", goods.goods_name)
    checks.text(f"{path}.goods_category", goods.goods_category, 64, prose=True)
    checks.without_chinese(f"{path}.goods_category", goods.goods_category)
    checks.money(f"{path}.goods_unit_amount", goods.goods_unit_amount)
    if goods.goods_quantity < 0:
        checks.fail(f"{path}.goods_quantity", "must be at least 1")
    checks.url(f"{path}.goods_url", goods.goods_url)
    checks.text(f"{path}.delivery_method_type", goods.delivery_method_type, 32)


def _check_shipping(shipping: Shipping, checks: Checks) -> None:
    path = "order.shipping"
    _check_name(f"{path}.shipping_name", shipping.shipping_name, checks)
    if shipping.shipping_address is not None:
        _check_address(f"{path}.shipping_address", shipping.shipping_address, checks)
    checks.text(f"{path}.shipping_carrier", shipping.shipping_carrier, 128, prose=True)
    checks.text(f"{path}.shipping_phone_no", shipping.shipping_phone_no, 16)
    checks.text(f"{path}.ship_to_email", shipping.ship_to_email, 64)


def _check_name(path: str, name: UserName | None, checks: Checks) -> None:
    if name is None:
        return
    checks.text(f"{path}.first_name", name.first_name, 32, prose=True)
    checks.text(f"{path}.middle_name", name.middle_name, 32, prose=True)
    checks.text(f"{path}.last_name", name.last_name, 32, prose=True)
    checks.text(f"{path}.full_name", name.full_name, 128, prose=True)


def _check_address(path: str, address: Address, checks: Checks) -> None:
    checks.region(f"{path}.region", address.region, required=True)
    checks.text(f"{path}.state", address.state, 8)
    checks.text(f"{path}.city", address.city, 32, prose=True)
    checks.text(f"{path}.address1", address.address1, 256, prose=True)
    checks.text(f"{path}.address2", address.address2, 256, prose=True)
    checks.text(f"{path}.zip_code", address.zip_code, 32)
